"""The fake device fails where a real one would go wrong: each of its rules can be broken."""

import pytest
import torch
from support.fake_device import FakeDevice


def test_replay_repeats_what_was_captured_with_the_numbers_it_was_captured_with() -> None:
    device = FakeDevice()
    x, out, factor = torch.ones(3), torch.zeros(3), 2.0
    graph = device.capture(lambda: torch.mul(x, factor, out=out))
    factor = 100.0
    x.fill_(5.0)
    graph.replay()
    assert out.tolist() == [10.0, 10.0, 10.0]


def test_capturing_an_allocation_fails() -> None:
    x = torch.ones(3)
    with pytest.raises(AssertionError, match="allocates"):
        FakeDevice().capture(lambda: x.copy_(x + 1))


def test_capturing_a_look_at_values_fails() -> None:
    x = torch.ones(3)
    with pytest.raises(AssertionError, match="looks at values"):
        FakeDevice().capture(lambda: x.fill_(float(x[0])))


def test_capturing_memory_of_a_step_fails() -> None:
    device = FakeDevice()
    with device.steps.working():
        passing = torch.ones(3) + 1
    with pytest.raises(AssertionError, match="made for itself"):
        device.capture(lambda: passing.fill_(2.0))


def test_reading_before_the_event_fails() -> None:
    device = FakeDevice()
    pinned, x = device.pin(12), torch.ones(3)
    device.results.wait(device.steps.mark())
    event = device.results.fetch(x, pinned)
    with pytest.raises(AssertionError, match="before the event"):
        _ = pinned.array
    event.wait()
    assert pinned.array.view("float32").tolist() == [1.0, 1.0, 1.0]


def test_a_copy_that_does_not_wait_for_the_steps_fails() -> None:
    device = FakeDevice()
    x = torch.ones(3)
    with device.steps.working():
        x.fill_(2.0)
    with pytest.raises(AssertionError, match="may still be writing"):
        device.results.fetch(x, device.pin(12))


def test_what_is_overwritten_before_its_copy_is_lost() -> None:
    device = FakeDevice()
    pinned, x = device.pin(12), torch.ones(3)
    device.results.wait(device.steps.mark())
    event = device.results.fetch(x, pinned)
    with device.steps.working():
        x.fill_(7.0)
    event.wait()
    assert pinned.array.view("float32").tolist() == [7.0, 7.0, 7.0]


def test_filling_memory_whose_copy_is_under_way_fails() -> None:
    device = FakeDevice()
    pinned, x = device.pin(12), torch.zeros(3)
    device.steps.upload(pinned, x)
    with pytest.raises(AssertionError, match="before the event"):
        pinned.array[:] = 0
