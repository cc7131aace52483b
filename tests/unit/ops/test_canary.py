"""The canary: both lanes, its age, its failures."""

from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio

from agent.ops.canary import Canary
from agent.pipeline.lanes import Lane
from tests.fakes import fake_models, tone


@pytest_asyncio.fixture
async def lanes() -> AsyncIterator[tuple[Lane, Lane]]:
    online, offline = Lane("online", 4), Lane("offline", 4)
    online.start()
    offline.start()
    yield online, offline
    await online.close(5)
    await offline.close(5)


async def test_age_counts_from_the_last_success(lanes: tuple[Lane, Lane]) -> None:
    now = [10.0]
    canary = Canary(*lanes, period_s=1, clock=lambda: now[0])
    assert canary.age_s is None
    await canary.sing(fake_models(), tone(3, 5))
    now[0] = 12.5
    assert canary.age_s == 2.5
    assert canary.failure == ""


async def test_a_failure_is_named_and_does_not_renew_the_age(lanes: tuple[Lane, Lane]) -> None:
    canary = Canary(*lanes, period_s=1)
    with pytest.raises(RuntimeError):
        await canary.sing(fake_models(fail_on="33333"), tone(3, 5))
    assert canary.age_s is None
    assert canary.failure == "RuntimeError: the graph broke"
    await canary.sing(fake_models(), tone(3, 5))
    assert canary.failure == ""


async def test_models_without_one_recogniser_are_enough(lanes: tuple[Lane, Lane]) -> None:
    canary = Canary(*lanes, period_s=1)
    await canary.sing(fake_models(online=False), np.zeros(1600, np.int16))
    await canary.sing(fake_models(offline=False), np.zeros(1600, np.int16))
    assert canary.age_s is not None
