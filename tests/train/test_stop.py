import os
import re
import signal

import jax
import numpy as np
import pytest

from jaxkd import data, train


def running(setup, **kwargs):
    case = setup()
    batches = data.TrainBatches(case.batch, batch_size=4, seed=0)
    step = train.jit_step(case.step())
    return train.fit(step, case.state(), case.variables, batches, **kwargs)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_after_the_update_with_all_hooks(setup, number):
    seen, before = [], signal.getsignal(number)
    hook = train.Hook(1000, lambda state, metrics: seen.append(int(state.step)))
    with train.stop_on_signal() as stop:
        for state, _ in running(setup, steps=1000, hooks=[hook], stop=stop):
            if int(state.step) == 5:
                os.kill(os.getpid(), number)
    assert seen == [6]
    assert signal.getsignal(number) is before


def test_a_second_signal_acts_as_ever():
    with train.stop_on_signal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop(1)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_best_keeps_a_copy_and_stops_when_it_gets_no_better(setup):
    values = iter([0.1, 0.5, 0.3, 0.5, 0.9])
    best = train.Best(lambda state: next(values), every=10, patience=2)
    states = running(setup, steps=1000, hooks=[best.hook], stop=best)
    *_, (last, _) = states
    assert int(last.step) == 40  # 0.3 and the second 0.5 are no better
    assert (best.step, best.value) == (20, 0.5)
    assert int(best.state.step) == 20
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(best.state.params))


def test_smaller_can_be_better(setup):
    values = iter([3.0, 2.0, 2.5])
    best = train.Best(lambda state: next(values), every=1, smaller=True)
    list(running(setup, steps=3, hooks=[best.hook], stop=best))
    assert (best.step, best.value) == (2, 2.0)
    with pytest.raises(ValueError, match="`patience` must be at least 1"):
        train.Best(lambda state: 0.0, every=1, patience=0)


def test_speed_and_memory_join_the_metrics(setup, monkeypatch):
    clock, logged = iter([10.0, 12.0, 12.5]), []
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    speed = train.Speed()
    monkeypatch.setattr(train._watch, "device_memory", lambda: {"bytes_in_use": 7.0})
    for examples in (40, 20):
        speed.add(examples)
        logged.append(speed.metrics())
    assert [m["examples_per_s"] for m in logged] == [20.0, 40.0]
    assert logged[0]["bytes_in_use"] == 7.0


def test_shared_memory_is_named(setup):
    case = setup()
    case.student = case.teacher
    state = case.state(variables=case.variables)
    train.check_not_aliased(state=state, teacher=case.variables)
    naive = {"params": case.variables.params}
    with pytest.raises(
        ValueError, match=r"'state/params/\S+' and 'teacher/params/\S+'"
    ):
        train.check_not_aliased(state=naive, teacher=case.variables)


def test_a_profile_names_the_parts_of_the_step(setup, tmp_path):
    case = setup()
    text = jax.jit(case.step()).lower(case.state(), case.variables, case.batch)
    names = text.as_text(debug_info=True)
    for part in ("teacher", "student", "loss"):
        assert re.search(rf"jit\(step\)/(jvp\()?{part}\b", names)
    step = jax.jit(case.step())
    jax.block_until_ready(step(case.state(), case.variables, case.batch))
    with train.profile(tmp_path / "trace"):
        jax.block_until_ready(step(case.state(), case.variables, case.batch))
    (trace,) = (tmp_path / "trace").rglob("*.xplane.pb")
    for part in (rb"teacher", rb"student", rb"jvp\(loss\)"):
        assert re.search(
            rb"jit\(step\)/(jvp\(|transpose\(jvp\()?" + part, trace.read_bytes()
        )
    (tmp_path / "file").write_text("")
    wrong = train.profile(tmp_path / "file")
    with pytest.raises(NotADirectoryError, match="a profile needs a folder"):
        wrong.__enter__()
