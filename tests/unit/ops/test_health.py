"""Health: the worst check counts, and `since` is kept while a finding holds."""

from __future__ import annotations

from agent.ops.health import Finding, HealthMonitor, Status


def test_the_worst_finding_is_the_state_of_the_box() -> None:
    findings = [("a", Finding(Status.OK, "fine")), ("b", Finding(Status.DEGRADED, "slow"))]
    monitor = HealthMonitor([lambda: findings])
    assert monitor.report().status is Status.DEGRADED
    findings.append(("c", Finding(Status.FAILING, "dead")))
    assert monitor.report().status is Status.FAILING


def test_since_stays_while_a_finding_holds_and_moves_when_it_changes() -> None:
    now = [100.0]
    finding = [Finding(Status.OK, "fine")]
    monitor = HealthMonitor([lambda: [("a", finding[0])]], clock=lambda: now[0])
    assert monitor.report().checks[0].since == 100.0
    now[0] = 200.0
    assert monitor.report().checks[0].since == 100.0
    finding[0] = Finding(Status.DEGRADED, "slow")
    assert monitor.report().checks[0].since == 200.0


def test_the_body_names_each_check_with_its_reason() -> None:
    monitor = HealthMonitor([lambda: [("a", Finding(Status.OK, "fine"))]], clock=lambda: 1.0)
    assert monitor.report().to_json() == {
        "status": "ok",
        "checks": [{"name": "a", "status": "ok", "reason": "fine", "since": 1.0}],
    }
