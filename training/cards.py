"""Model cards in both languages, written from what a run found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from catalog.publishing import Text
from training import text_cards
from training.recipes import Recipe
from training.recipes.catalogue import DIGITS, EMBEDDING, LINE, MNIST, TEXT

_DATA = {
    DIGITS: Text(
        "**scikit-learn's bundled handwritten digits** (1 797 images of 43 writers, 8×8 pixels, "
        "from the UCI Optical Recognition of Handwritten Digits set), scaled to 28×28 and centred "
        "by mass like MNIST. This is *not* MNIST. During training the images are shifted, scaled, "
        "turned, slanted and redrawn with thicker and thinner strokes.",
        "**scikit-learn 自带的手写数字**（43 位书写者的 1797 张 8×8 图像，来自 UCI 光学手写数字"
        "识别数据集），放大到 28×28 并按质心居中，与 MNIST 的做法一致。这不是 MNIST。"
        "训练时对图像做平移、缩放、旋转、倾斜以及笔画粗细的变化。",
    ),
    MNIST: Text(
        "**MNIST** (70 000 images, 28×28), read from this machine's disk. The 10 000 test images "
        "are held out. During training the images are shifted, scaled, turned, slanted and "
        "redrawn with thicker and thinner strokes.",
        "**MNIST**（70000 张 28×28 图像），从本机磁盘读取。10000 张测试图像不参与训练。"
        "训练时对图像做平移、缩放、旋转、倾斜以及笔画粗细的变化。",
    ),
    LINE: Text(
        "1 200 points of `y = 3x + 2` with normal noise (standard deviation 0.25), `x` from −5 "
        "to 5, made by a fixed random seed.",
        "`y = 3x + 2` 加正态噪声（标准差 0.25）的 1200 个点，`x` 在 −5 到 5 之间，"
        "由固定的随机种子生成。",
    ),
}
_NAMES = {
    DIGITS: Text("scikit-learn digits", "scikit-learn 手写数字"),
    MNIST: Text("MNIST", "MNIST"),
    LINE: Text("y = 3x + 2 + noise", "y = 3x + 2 + 噪声"),
}
_IMAGE_LIMITS = Text(
    "- One digit per image, white on black, centred, 28×28. Other signs get a digit too: the model "
    "cannot say “none of these”.\n"
    "- The probabilities are not calibrated.\n"
    "- Few writers: unusual hands are recognised less well than the held-out images.",
    "- 每张图像只有一个数字，黑底白字，居中，28×28。其他符号也会被判为某个数字："
    "模型不会回答“都不是”。\n"
    "- 概率未经校准。\n"
    "- 书写者不多：少见的笔迹识别率低于留出集上的结果。",
)
_NUMBER_LIMITS = Text(
    "- It knows one line. Far outside −5 to 5 the small error of the slope grows with `x`.",
    "- 它只学过一条直线。`x` 远离 −5 到 5 时，斜率的微小误差会随 `x` 增大。",
)


def summary(recipe: Recipe, result: Mapping[str, Any]) -> Text:
    """Return one sentence for the catalogue."""
    if recipe.task in {TEXT, EMBEDDING}:
        return text_cards.summary(recipe, result)
    data = _NAMES[result["training"]["data"]]
    if not recipe.is_classifier:
        return Text(
            f"Fits a line by gradient descent: {data.en}.", f"用梯度下降拟合一条直线：{data.zh}。"
        )
    percent = _percent(result["metrics"]["accuracy"])
    return Text(
        f"Recognises a handwritten digit in a 28×28 image; {percent} of held-out images right "
        f"({data.en}).",
        f"识别 28×28 图像中的手写数字；留出集准确率 {percent}（{data.zh}）。",
    )


def card(recipe: Recipe, result: Mapping[str, Any]) -> Text:
    """Return the model card as Markdown."""
    if recipe.task in {TEXT, EMBEDDING}:
        parts = text_cards.sections(recipe, result)
        return Text(
            _markdown([(title, text.en) for title, _, text in parts]),
            _markdown([(title, text.zh) for _, title, text in parts]),
        )
    limits = _IMAGE_LIMITS if recipe.is_classifier else _NUMBER_LIMITS
    data = _DATA[result["training"]["data"]]
    rows = result["training"]["rows"]
    made = _made(result["training"])
    held = result["metrics"]["rows"]
    sections_en = [
        ("What it does", _task(recipe).en),
        (
            "Data",
            f"{data.en}\n\nTrained on {rows['training']} rows, {rows['validation']} chose the best "
            f"epoch, {held} were held out.",
        ),
        ("Architecture", f"{recipe.architecture_en}. {result['parameters']:,} parameters."),
        ("How it was trained", made.en),
        (f"Metrics on {held} held-out rows", _metrics(result).en),
        ("Limits", limits.en),
    ]
    sections_zh = [
        ("用途", _task(recipe).zh),
        (
            "数据",
            f"{data.zh}\n\n训练 {rows['training']} 行，选择最佳轮次 {rows['validation']} 行，"
            f"留出 {held} 行。",
        ),
        ("结构", f"{recipe.architecture_zh}。共 {result['parameters']:,} 个参数。"),
        ("训练方式", made.zh),
        (f"{held} 行留出数据上的指标", _metrics(result).zh),
        ("局限", limits.zh),
    ]
    return Text(_markdown(sections_en), _markdown(sections_zh))


def _markdown(sections: list[tuple[str, str]]) -> str:
    return "\n\n".join(f"## {title}\n\n{text}" for title, text in sections) + "\n"


def _task(recipe: Recipe) -> Text:
    if recipe.is_classifier:
        return Text(
            "Takes a grey image of a handwritten digit and returns ten probabilities, one per "
            "digit.",
            "输入一张手写数字的灰度图像，返回 0 到 9 十个数字的概率。",
        )
    return Text("Takes a number `x` and returns `y`.", "输入数值 `x`，返回 `y`。")


def _made(training: Mapping[str, Any]) -> Text:
    choices = training["hyperparameters"]
    text = Text(
        f"{choices['optimizer']}, learning rate {choices['learning_rate']}, batches of "
        f"{choices['batch_size']}, {training['epochs']} epochs, seed {choices['seed']}; "
        f"{training['seconds']} s. The epoch with the lowest validation loss was kept.",
        f"{choices['optimizer']}，学习率 {choices['learning_rate']}，批大小 "
        f"{choices['batch_size']}，{training['epochs']} 轮，随机种子 {choices['seed']}；"
        f"用时 {training['seconds']} 秒。保留验证损失最低的一轮。",
    )
    if not training.get("shipped"):
        return text
    return Text(
        f"{text.en}\n\nPyTorch is not installed on this site: the model is the ONNX file that "
        "comes with Mercato, made by the same recipe with PyTorch "
        f"{training['made_with']['torch']}, SHA-256 `{training['sha256']}`. "
        "The metrics below were measured here.",
        f"{text.zh}\n\n本站没有安装 PyTorch：模型是随 Mercato 提供的 ONNX 文件，由同一配方用 "
        f"PyTorch {training['made_with']['torch']} 训练得到，SHA-256 `{training['sha256']}`。"
        "下列指标在本机测得。",
    )


def _metrics(result: Mapping[str, Any]) -> Text:
    metrics = result["metrics"]
    if "accuracy" not in metrics:
        return Text(
            f"- Mean squared error {metrics['loss']}\n"
            f"- Mean absolute error {metrics['mean_absolute_error']}\n- R² {metrics['r2']}",
            f"- 均方误差 {metrics['loss']}\n- 平均绝对误差 {metrics['mean_absolute_error']}\n"
            f"- R² {metrics['r2']}",
        )
    worst = min(range(10), key=lambda label: float(metrics["recall"][label]))
    recall = _percent(metrics["recall"][worst])
    return Text(
        f"- Accuracy {_percent(metrics['accuracy'])}, loss {metrics['loss']}\n"
        f"- On the same images shifted, turned and redrawn: "
        f"{_percent(metrics['accuracy_varied'])}\n"
        f"- Weakest class: {worst}, {recall} found",
        f"- 准确率 {_percent(metrics['accuracy'])}，损失 {metrics['loss']}\n"
        f"- 对同样的图像平移、旋转、改变笔画后：{_percent(metrics['accuracy_varied'])}\n"
        f"- 最弱的类别：{worst}，召回 {recall}",
    )


def _percent(text: str) -> str:
    return f"{float(text) * 100:.1f} %"
