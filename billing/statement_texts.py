"""The words of invoices, in both languages.

They stand here and not in the catalogues of translations: the PDF of an old invoice must not change
with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Language = Literal["en", "zh"]

TEXTS: Mapping[Language, Mapping[str, str]] = {
    "en": {
        "title": "Invoice",
        "test": "A test: no real money moves.",
        "number": "Number",
        "issued": "Issued",
        "month": "Month",
        "utc": "UTC",
        "from": "From",
        "to": "To",
        "tax_id": "Tax number",
        "what": "Description",
        "calls": "Calls",
        "exact": "Exact",
        "amount": "Amount",
        "subtotal": "Subtotal",
        "tax": "Tax",
        "total": "Total",
        "rest": "Other models and keys",
        "no_key": "without a key",
        "training": "Training",
        "credit": "Paid with credit",
        "deferred": "Billed next month",
        "late": "Used in {month}",
        "carried_in": "Carried from last month",
        "carried_out": "Carried to next month",
        "stripe": "Paid through Stripe: invoice {number}",
        "digest": "SHA-256 of this statement",
        "rounding": "Each line is rounded to whole coins so that the lines sum to the total.",
        "page": "Page {page}",
    },
    "zh": {
        "title": "账单",
        "test": "测试账单：不涉及真实资金。",
        "number": "编号",
        "issued": "开具日期",
        "month": "账期",
        "utc": "协调世界时",
        "from": "开具方",
        "to": "客户",
        "tax_id": "税号",
        "what": "项目",
        "calls": "调用次数",
        "exact": "精确金额",
        "amount": "金额",
        "subtotal": "小计",
        "tax": "税额",
        "total": "合计",
        "rest": "其他模型和密钥",
        "no_key": "无密钥",
        "training": "训练",
        "credit": "由余额支付",
        "deferred": "计入下月账单",
        "late": "{month} 的用量",
        "carried_in": "上月结转",
        "carried_out": "结转至下月",
        "stripe": "通过 Stripe 支付：账单 {number}",
        "digest": "本账单的 SHA-256",
        "rounding": "每一行四舍五入到最小货币单位，各行之和等于合计。",
        "page": "第 {page} 页",
    },
}


def line_text(line: Mapping[str, str], language: Language) -> str:
    """Return what a line of a frozen statement says."""
    words = TEXTS[language]
    kind = line["kind"]
    if kind == "usage":
        model, key = line["model"] or words["training"], line["key"] or words["no_key"]
        return f"{model} · {key}"
    return words[kind].format(month=line["model"])
