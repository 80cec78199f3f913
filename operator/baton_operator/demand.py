"""How many replicas today's demand needs: prefill by tokens, decode by KV and step time. Pure.

Needs are fractions and follow from what is asked, not from how many replicas happen to serve it:
else adding one would lower the need for it, and the law would chase its own tail. Knows no bounds
and no past.
"""

from baton_operator.scaling import DecodeSignals, Need, PrefillSignals, Reason, ScaledRole, Targets

PREFILL_UTILISATION_MAX = 0.8
"""Of a prefill worker's speed that is planned with at most: prompts arrive in clumps, and at full
use a queue grows without end."""

PREFILL_UTILISATION_MIN = 0.2
"""At least: where prompts alone take longer than the target, idle workers would not help."""

RECOVERY_S = 60.0
"""A backlog is to be worked off within this, or within the time a replica takes to start where that
is longer: what the present ones work off sooner is gone before another could help."""

KV_UTILISATION = 0.8
"""Of KV blocks that is planned with: answers grow by tokens nobody has counted yet, and a full pool
preempts."""

ITL_SHARE = 0.9
"""Of the ITL target that a predicted step may take: chunks of prompts share steps with decodes."""


def starting_credit(role: ScaledRole) -> float:
    """The share of the replicas that work already, 0 to 1.

    What piles up while the others start is no reason to order more of them.
    """
    return min(1.0, role.ready / role.wanted) if role.wanted > 0 else 1.0


def prefill_need(
    signals: PrefillSignals, targets: Targets, role: ScaledRole, start_s: float
) -> Need | None:
    """What arrives must be computed as it arrives, with room for the TTFT target; and what waits,
    soon. `start_s` is how long replicas took to start. None: the speed of a worker is not known.
    """
    speed = signals.speed_tokens_per_s
    if speed <= 0:
        return None
    utilisation = prefill_utilisation(signals.prompt_tokens / speed, targets.ttft_s)
    backlog = signals.backlog_tokens / (speed * max(RECOVERY_S, start_s)) * starting_credit(role)

    def needed_for(tokens_per_s: float) -> float:
        arriving = tokens_per_s / speed
        return max(arriving / utilisation, arriving + backlog)

    needed = needed_for(signals.arrival_tokens_per_s)
    return Need(
        needed,
        needed_for(min(signals.arrival_tokens_per_s, signals.lately_tokens_per_s)),
        Reason.PROMPT_BACKLOG,
        {
            "backlog_tokens": signals.backlog_tokens,
            "arrival_tokens_per_s": signals.arrival_tokens_per_s,
            "lately_tokens_per_s": signals.lately_tokens_per_s,
            "speed_tokens_per_s": speed,
            "utilisation": utilisation,
            "needed": needed,
        },
    )


def prefill_utilisation(prompt_s: float, ttft_s: float) -> float:
    """How busy a worker may be so that a prompt of `prompt_s` has its first token within the
    target.

    A queue at utilisation u lets one wait about prompt_s * u / (1 - u); what the target leaves
    after the prompt's own time must cover that.
    """
    waiting_s = ttft_s - prompt_s
    if waiting_s <= 0:
        return PREFILL_UTILISATION_MIN
    allowed = waiting_s / (waiting_s + prompt_s)
    return min(max(allowed, PREFILL_UTILISATION_MIN), PREFILL_UTILISATION_MAX)


def decode_need(signals: DecodeSignals, targets: Targets, role: ScaledRole) -> Need | None:
    """The larger of what the KV needs and what the step time needs. None: nothing can be said.

    On m replicas a step takes s(m) = fixed + work / m for all rows together. What is constant under
    constant load is not the rows but the tokens per second that are asked for, and each costs
    `work / rows`: so `busy` replicas' worth of work is certain, s(m) = fixed * m / (m - busy), and
    the rows in flight are tokens per second times s(m).
    """
    fixed_s = signals.step_fixed_s
    work_s = signals.rows * signals.step_row_s + signals.kv_tokens * signals.step_kv_token_s
    if role.ready <= 0 or fixed_s + work_s + signals.step_row_s <= 0:
        return None
    step_s = fixed_s + work_s / role.ready
    managed = signals.rows / step_s if step_s > 0 else 0.0
    row_work_s = work_s / signals.rows if signals.rows > 0 else signals.step_row_s
    row_kv = signals.kv_used / signals.rows if signals.rows > 0 else 0.0
    waiting = signals.kv_waiting * starting_credit(role)
    limit_s = targets.itl_s * ITL_SHARE

    def needed_for(tokens_per_s: float) -> tuple[float, Reason]:
        busy = tokens_per_s * row_work_s
        by_kv = busy + (tokens_per_s * fixed_s * row_kv + waiting) / KV_UTILISATION
        # Where a step's fixed part alone is over the limit, no number of replicas helps.
        by_step = busy / (1 - fixed_s / limit_s) if limit_s > fixed_s else 0.0
        return (by_step, Reason.STEP_TIME) if by_step > by_kv else (by_kv, Reason.KV_USAGE)

    # Overloaded replicas manage less than what is asked; between requests the opposite holds.
    tokens_per_s = max(managed, signals.arrival_tokens_per_s)
    needed, reason = needed_for(tokens_per_s)
    lasting, _ = needed_for(max(managed, min(tokens_per_s, signals.lately_tokens_per_s)))
    inputs = {
        "tokens_per_s": tokens_per_s,
        "lately_tokens_per_s": signals.lately_tokens_per_s,
        "rows": signals.rows,
        "kv_used": signals.kv_used,
        "kv_waiting": signals.kv_waiting,
        "step_s": step_s,
        "needed": needed,
    }
    return Need(needed, lasting, reason, inputs)
