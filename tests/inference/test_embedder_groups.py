"""Texts of different lengths are computed in groups that hold little padding."""

from __future__ import annotations

import numpy as np
import pytest

from inference.runtime.embedders import GROUP_TOKENS, PADDED, groups


@pytest.mark.parametrize(
    ("lengths", "sizes"),
    [
        ([5], [1]),
        ([8, 8, 8, 8], [4]),
        ([40, 10, 10, 41], [2, 2]),
        ([256] * 9, [4, 4, 1]),
        ([1, 2, 4, 8], [1, 1, 1, 1]),
    ],
)
def test_groups_are_cut_where_padding_or_tokens_get_too_many(
    lengths: list[int], sizes: list[int]
) -> None:
    known = np.array(lengths)

    found = groups(known.argsort(kind="stable"), known)

    assert [len(rows) for rows in found] == sizes


def test_every_row_is_in_one_group_and_padding_stays_rare() -> None:
    lengths = np.random.default_rng(2).integers(1, 257, 500)

    found = groups(lengths.argsort(kind="stable"), lengths)

    assert sorted(np.concatenate(found)) == list(range(500))
    for rows in found:
        padded = len(rows) * lengths[rows].max()
        assert padded <= GROUP_TOKENS
        assert padded <= PADDED * lengths[rows].sum()
