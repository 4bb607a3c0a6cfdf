"""Model cards of models for text, in both languages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from catalog.publishing import Text
from training.recipes import Recipe
from training.recipes.catalogue import EMBEDDING

# A heading in English, one in Chinese, and the text.
Section = tuple[str, str, Text]


def summary(recipe: Recipe, result: Mapping[str, Any]) -> Text:
    """Return one sentence for the catalogue."""
    if recipe.task == EMBEDDING:
        return Text(
            "Turns English sentences into 384 numbers: sentences of like meaning lie close.",
            "把英文句子变成 384 个数：意思相近的句子彼此靠近。",
        )
    bits = result["metrics"]["bits_per_character"]
    return Text(
        f"Continues a text character by character in the manner of Mercato's documents; {bits} "
        "bits "
        "per held-out character.",
        f"按 Mercato 文档的风格逐字符续写文本；留出集上每字符 {bits} 比特。",
    )


def sections(recipe: Recipe, result: Mapping[str, Any]) -> list[Section]:
    """Return the parts of the card."""
    if recipe.task == EMBEDDING:
        return _embedder(recipe, result)
    return _writer(recipe, result)


def _writer(recipe: Recipe, result: Mapping[str, Any]) -> list[Section]:
    training, metrics = result["training"], result["metrics"]
    rows = training["rows"]
    return [
        (
            "What it does",
            "用途",
            Text(
                "Continues a text, one character after the other. Call it with the package "
                "`openai`: "
                "`/v1/completions` continues a prompt, `/v1/chat/completions` writes the paragraph "
                "after your messages. A token is a character.",
                "逐字符续写文本。可用 `openai` 包调用：`/v1/completions` 续写提示，"
                "`/v1/chat/completions` 写出消息之后的一段。一个 token 就是一个字符。",
            ),
        ),
        (
            "Data",
            "数据",
            Text(
                "**Mercato's own documents**: the prose of `docs/*.md`, README and CONTRIBUTING, "
                "in "
                f"English, without code. {rows['training']} windows of 128 characters; "
                f"{rows['validation']} chose the best epoch, {metrics['rows']} were held out.",
                "**Mercato 自己的文档**：`docs/*.md`、README 和 CONTRIBUTING 中的英文正文，"
                "不含代码。"
                f"共 {rows['training']} 个 128 字符的窗口；"
                f"{rows['validation']} 个用于选择最佳轮次，留出 {metrics['rows']} 个。",
            ),
        ),
        (
            "Architecture",
            "结构",
            Text(
                f"{recipe.architecture_en}. {result['parameters']:,} parameters. Its state is an "
                "input "
                "and an output of the graph, so one more character is one small step.",
                f"{recipe.architecture_zh}。共 {result['parameters']:,} 个参数。"
                "状态是计算图的输入和输出，"
                "因此每多写一个字符只需一小步。",
            ),
        ),
        *_writer_made(training, metrics),
    ]


def _writer_made(training: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[Section]:
    return [
        ("How it was trained", "训练方式", _made(training)),
        (
            "Metrics",
            "指标",
            Text(
                f"- {metrics['bits_per_character']} bits per held-out character (loss "
                f"{metrics['loss']} "
                "nats)",
                f"- 留出集上每字符 {metrics['bits_per_character']} 比特（损失 {metrics['loss']} "
                "奈特）",
            ),
        ),
        (
            "Limits",
            "局限",
            Text(
                "- A toy of its size: words and phrases are ours, but what it says is **not "
                "true**, and "
                "it answers no questions.\n- It knows English letters and a few signs; others "
                "count as "
                "unknown.\n- Prompt and answer have at most 4,096 characters.",
                "- 规模很小的演示模型：词句来自文档，但内容**并不真实**，也不会回答问题。\n"
                "- 只认识英文字母和少量符号，其他字符视为未知。\n"
                "- 提示与回答合计最多 4096 个字符。",
            ),
        ),
    ]


def _made(training: Mapping[str, Any]) -> Text:
    choices = training["hyperparameters"]
    text = Text(
        f"{choices['optimizer']}, learning rate {choices['learning_rate']}, batches of "
        f"{choices['batch_size']}, {training['epochs']} epochs, seed {choices['seed']}; "
        f"{training['seconds']} s. The epoch with the lowest validation loss was kept.",
        f"{choices['optimizer']}，学习率 {choices['learning_rate']}，"
        f"批大小 {choices['batch_size']}，{training['epochs']} 轮，"
        f"随机种子 {choices['seed']}；用时 {training['seconds']} 秒。"
        "保留验证损失最低的一轮。",
    )
    if not training.get("shipped"):
        return text
    return Text(
        f"{text.en}\n\nThe model is the file that comes with Mercato, made by the same recipe, "
        "SHA-256 "
        f"`{training['sha256']}`.",
        f"{text.zh}\n\n模型是随 Mercato 提供的文件，由同一配方训练得到，SHA-256 "
        f"`{training['sha256']}`。",
    )


def _embedder(recipe: Recipe, result: Mapping[str, Any]) -> list[Section]:
    return [
        (
            "What it does",
            "用途",
            Text(
                "Turns a sentence or a short paragraph into a vector of length 1. The product of "
                "two "
                "vectors says how near their meanings are: for search, grouping and finding "
                "doubles. "
                "Call it with the package `openai`: `/v1/embeddings`.",
                "把一个句子或短段落变成长度为 1 的向量。两个向量的内积表示意思有多接近，可用于"
                "搜索、聚类和查重。可用 `openai` 包调用：`/v1/embeddings`。",
            ),
        ),
        (
            "Where it comes from",
            "来源",
            Text(
                "`sentence-transformers/all-MiniLM-L6-v2` (Apache 2.0), trained by its authors "
                "on more "
                "than a billion pairs of sentences. **Not trained here**: the weights are those "
                "of the "
                f"package {result['training']['package']}, unchanged.",
                "`sentence-transformers/all-MiniLM-L6-v2`（Apache 2.0），"
                "由原作者在超过十亿个句对上训练。"
                f"**不是在本站训练的**：权重来自软件包 {result['training']['package']}，未作改动。",
            ),
        ),
        (
            "Architecture",
            "结构",
            Text(
                f"{recipe.architecture_en}. {result['parameters']:,} parameters, float32.",
                f"{recipe.architecture_zh}。共 {result['parameters']:,} 个参数，float32。",
            ),
        ),
        *_embedder_checked(result),
    ]


def _embedder_checked(result: Mapping[str, Any]) -> list[Section]:
    return [
        (
            "How it was checked",
            "检验方式",
            Text(
                "The graph that serves was compared on this machine with a second computation of "
                "the "
                "same weights in float64: the largest difference is "
                f"{result['metrics']['parity']}.",
                "在本机用 float64 对同样的权重另算一遍，与提供服务的计算图比较："
                f"最大差异为 {result['metrics']['parity']}。",
            ),
        ),
        (
            "Tokens",
            "词元",
            Text(
                "Texts are cut into pieces of words; each text has one more token at its "
                "beginning and "
                "one at its end. You pay for tokens, not for texts.",
                "文本按词片切分；每段文本首尾各多一个词元。按词元计费，不按文本条数计费。",
            ),
        ),
        (
            "Limits",
            "局限",
            Text(
                "- English. Other languages are cut into pieces that mean little.\n- At most 256 "
                "tokens "
                "a text; longer ones are refused, not cut.\n- What its authors' data says about "
                "people, "
                "good and bad, is in its vectors.",
                "- 面向英文。其他语言会被切成意义不大的片段。\n- 每段文本最多 256 个词元；"
                "更长的会被拒绝，"
                "不会截断。\n- 原始训练数据中对人的偏见也会体现在向量里。",
            ),
        ),
    ]
