from __future__ import annotations

import json

from accounts import durations


def test_a_duration_is_a_number_of_milliseconds_with_its_decimals() -> None:
    assert json.dumps([durations.milliseconds(us) for us in (400, 3000, 1)]) == "[0.4, 3.0, 0.001]"
