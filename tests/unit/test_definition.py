"""What an override makes of a job: one rule, for whoever has to know."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as bounded
from hypothesis import strategies as st

from leaderjob.assigning import assignments_of
from leaderjob.catalog.catalog import Catalog
from leaderjob.catalog.description import JobDescription
from leaderjob.engine.definition import assign, check_override, overridden, with_settings
from leaderjob.engine.overrides import checked_against
from leaderjob.errors import NotFound, SettingsError
from leaderjob.model.job import JobSpec, Parameter
from leaderjob.settings import JobOverride, Settings

CORPUS = Parameter("corpus", "str", required=True)
SIZE = Parameter("size", "int")


def job(
    *schedule: str, time_zone: str = "UTC", params: tuple[Parameter, ...] | None = (), **more: Any
) -> JobSpec:
    return JobSpec(
        name="j", reference="m:j", schedule=schedule, time_zone=time_zone, parameters=params, **more
    )


def why_not(spec: JobSpec) -> str:
    """Why it does not fire, which its definition says in a form that can be stored."""
    found = assign(spec)
    assert found.trigger.rules == ()
    assert found.spec.schedule_error is not None
    assert JobSpec.from_bytes(found.spec.to_bytes()) == found.spec
    assert assign(found.spec).spec.schedule_error is not None, "what is shown of it must not become valid"
    return found.spec.schedule_error


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (job("61 * * * *"), "minute field '61'"),
        (job("@daily", time_zone="Nowhere/City"), "time zone 'Nowhere/City' is unknown"),
        (job(time_zone="localtime"), "depends on the machine"),
        (job("9999-12-31T23:59:59", time_zone="America/New_York"), "it is out of range"),
        (job("2030-03-31T02:30", time_zone="Europe/Berlin"), "skips that time"),
        (job(*["* * * * *"] * 85_000), "it has 85000 expressions"),
        (job("0," * 100_000), "characters, and at most"),
        (job("@daily", params=(CORPUS,)), "needs the parameter 'corpus' (str): no scheduled run can begin"),
        (job("@daily", params=(SIZE,)).model_copy(update={"params": {"sise": 1}}), "did you mean 'size'?"),
        (job(params=(SIZE,)).model_copy(update={"params": {"size": "x"}}), "no run can begin"),
        (job("\udc80".encode("utf-8", "backslashreplace").decode()), "it is neither a crontab"),
    ],
)
def test_a_job_that_could_never_fire_says_why(spec: JobSpec, reason: str) -> None:
    assert reason in why_not(spec)


def test_a_job_without_a_schedule_may_require_parameters() -> None:
    assert assign(job(params=(CORPUS,))).spec.schedule_error is None


def test_settings_give_what_a_scheduled_run_requires() -> None:
    spec = with_settings(job("@daily", params=(CORPUS, SIZE)), JobOverride(params={"corpus": "c"}))
    found = assign(spec)
    assert (found.spec.schedule_error, len(found.trigger.rules)) == (None, 1)
    assert found.spec.parameters == (Parameter("corpus", "str"), SIZE), (
        "a command cannot miss what settings give"
    )


def test_the_dynamic_configuration_gives_what_a_scheduled_run_requires() -> None:
    base = assign(job("@daily", params=(CORPUS,)))
    found, refused = overridden(base, {"params": {"corpus": "c"}})
    assert (found.spec.schedule_error, refused, len(found.trigger.rules)) == (None, [], 1)


def test_a_schedule_that_lacks_parameters_does_not_fire_whoever_set_it() -> None:
    found, refused = overridden(assign(job(params=(CORPUS,))), {"schedule": "@daily"})
    assert refused == []
    assert found.trigger.rules == ()
    assert "needs the parameter 'corpus'" in str(found.spec.schedule_error)


def test_a_disabled_job_shows_no_schedule_and_no_error() -> None:
    found, _ = overridden(assign(job("61 * * * *")), {"enabled": False})
    assert (found.spec.schedule, found.spec.schedule_error, found.spec.enabled) == ((), None, False)


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ({"enabled": "perhaps"}, "'enabled': Input should be a valid boolean"),
        ({"timeout": 0}, "'timeout': Input should be greater than 0"),
        ({"timeout": 10**400}, "'timeout': "),
        ({"schedule": {"a": 1}}, "'schedule': "),
        ({"schedule": [1]}, "'schedule': "),
        ({"params": []}, "'params': "),
        ({"shedule": "@daily"}, "'shedule': "),
        ({"schedule": "61 * * * *"}, "minute field"),
        ({"schedule": ["* * * * *"] * 101}, "it has 101 expressions"),
        ({"schedule": "9999-12-31T23:59:59"}, "it is out of range"),
        ({"schedule": "2030-03-10T02:30"}, "the clock of America/New_York skips that time"),
        ({"params": {"sise": 1}}, "did you mean 'size'?"),
        ({"params": {"size": "1"}}, "has to be of type int"),
    ],
)
def test_each_part_of_an_override_that_is_wrong_costs_only_itself(
    override: dict[str, Any], reason: str
) -> None:
    base = assign(job("@daily", params=(SIZE,), time_zone="America/New_York"))
    found, refused = overridden(
        base, {"timeout": "5m", "params": {"size": 2}, "schedule": "every 5m", **override}
    )
    assert len(refused) == 1
    assert reason in refused[0]
    assert found.spec.policy.timeout_s == (300 if "timeout" not in override else base.spec.policy.timeout_s)
    assert found.spec.params == ({"size": 2} if "params" not in override else {})
    assert found.spec.schedule == (("every 5m",) if "schedule" not in override else ("@daily",))
    assert found.trigger.rules
    with pytest.raises(SettingsError):
        check_override(base.spec, override)


@pytest.mark.parametrize("override", [5, "x", [], True])
def test_an_override_that_is_no_table_is_refused(override: object) -> None:
    found, (reason,) = overridden(assign(job("@daily")), override)
    assert "has to be a table" in reason
    assert found.trigger.rules


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = st.sampled_from(["schedule", "timeout", "enabled", "params", "other", ""])


@bounded(deadline=None, database=None)
@given(_JSON | st.dictionaries(_FIELDS, _JSON | st.lists(st.just("@daily")) | st.just("every 5m")))
def test_whatever_was_written_for_a_job_is_taken_or_refused_in_sentences(override: Any) -> None:
    found, refused = overridden(assign(job("@daily", params=(SIZE,))), override)
    assert JobSpec.from_bytes(found.spec.to_bytes()) == found.spec
    for reason in refused:
        reason.encode()


def test_the_command_takes_what_the_leader_takes() -> None:
    spec = job("@daily", params=(CORPUS, SIZE))
    check_override(spec, {"params": {"corpus": "c"}})
    check_override(spec, {"enabled": False})
    check_override(spec, {"schedule": ""})
    check_override(job("@daily", params=None), {"params": {"anything": 1}})  # of a release that did not say
    for override in ({"schedule": "every 5m"}, {"timeout": "5m"}, {"params": {"size": 1}}):
        with pytest.raises(SettingsError, match="needs the parameter 'corpus'"):
            check_override(spec, override)


def test_what_an_earlier_override_gave_does_not_count_for_the_next_one() -> None:
    given, _ = overridden(assign(job("@daily", params=(CORPUS,))), {"params": {"corpus": "c"}})
    with pytest.raises(SettingsError, match="needs the parameter 'corpus'"):
        check_override(given.spec, {"timeout": "5m"})


def test_only_overrides_that_a_change_alters_are_checked() -> None:
    check = checked_against({"j": job("@daily"), "newer": None})
    gone = {"jobs": {"gone": {"enabled": False}}}
    check(gone, {"jobs": {**gone["jobs"], "j": {"timeout": "5m"}}})
    check(gone, {})
    check({"jobs": 5}, {"jobs": {"j": {"timeout": "5m"}}})
    with pytest.raises(NotFound, match="no job is called 'gone'"):
        check({}, gone)
    with pytest.raises(NotFound, match="did you mean 'j'"):
        check({}, {"jobs": {"jj": {}}})
    with pytest.raises(SettingsError, match="cannot be read by this release"):
        check({}, {"jobs": {"newer": {"enabled": False}}})


def test_what_is_wrong_with_one_job_costs_no_other_job_its_schedule() -> None:
    described = tuple(
        JobDescription(job(*schedule).model_copy(update={"name": name}), "m", "f")
        for name, schedule in (("good", ["@daily"]), ("bad", ["9999-12-31T23:59:59-23:59"]))
    )
    found = assignments_of(Catalog(described, ()), Settings(overrides={"good": JobOverride(timeout=5)}))
    assert found["good"].spec.schedule_error is None
    assert found["good"].trigger.rules
    assert found["bad"].spec.schedule_error is not None


@pytest.mark.parametrize("schedule", [0, False, {}, 0.0, [0], [[]]])
def test_a_schedule_that_is_no_text_does_not_stop_a_job(schedule: Any) -> None:
    found, refused = overridden(assign(job("@daily")), {"schedule": schedule})
    assert found.trigger.rules
    assert "'schedule'" in refused[0]


@pytest.mark.parametrize("value", [10**400, -(10**639)])
def test_an_integer_that_no_float_can_hold_is_a_number(value: int) -> None:
    check_override(job(params=(Parameter("size", "float"),)), {"params": {"size": value}})


@pytest.mark.parametrize("name", ["\udc80", None, 5, (1, 2)])
def test_a_name_that_is_no_text_costs_itself_only(name: Any) -> None:
    found, refused = overridden(assign(job("@daily")), {name: 1, "timeout": 5})
    assert found.spec.policy.timeout_s == 5
    assert "a name has to be valid text" in refused[0]


def test_params_that_were_refused_are_not_announced_as_overridden() -> None:
    found, _ = overridden(assign(job("@daily", params=(SIZE,))), {"params": {"size": "x"}, "timeout": 5})
    assert found.spec.overridden == ("timeout",)
