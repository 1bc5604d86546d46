"""The command lines about what was served: what is watched, and the review of corrections."""

import contextlib
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows import cli
from flows.cron import Times
from mnist_pipeline.config import REFERENCE, FieldError, Gate, TrainConfig, check
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.monitoring import review as sheets
from mnist_pipeline.monitoring.fetch import existing_log, is_address
from mnist_pipeline.monitoring.log import FILE
from mnist_pipeline.monitoring.options import Watch, check_disjoint, different_logs, review_command
from mnist_pipeline.monitoring.served import contradicting
from mnist_pipeline.text import counted, printable

OUT = Path("corrections-to-review")
AT_ONCE = 1000  # corrections in one table


def monitor(
    *,
    watch: Annotated[Watch, cli.Flat] = Watch(),
    config: Annotated[TrainConfig, cli.Flat] = REFERENCE,
    source: Annotated[DataSource, cli.Flat] = DataSource(),
    gate: Annotated[Gate, cli.Flat] = Gate(),
    times: Annotated[Times, cli.Flat] = Times(),
) -> None:
    """Judge what the champion answered lately: all is fine, someone should look, or it should be retrained.

    The options of a recipe, of the data and of the gate are those of --retrain.
    """
    if watch.retrain and source.extra:
        raise FieldError("extra", f"must be left out, as the corrections take its place, not {source.extra}")


def review(
    *,
    log: Annotated[tuple[str, ...], Parameter(help="Logs of the servers: files, or addresses to look at.")] = (
        str(FILE),
    ),
    out: Annotated[Path, Parameter(help="Folder to write the sheet and the table to.")] = OUT,
    apply: Annotated[Path | None, Parameter(help="Table whose column review was filled in: carry it out.")] = None,
    withdraw: Annotated[tuple[str, ...], Parameter(help="Ids whose corrections are taken back, reviewed or not.")] = (),
) -> None:
    """Write the corrections to be reviewed as a sheet and a table, or carry out what a table says.

    Those are to be reviewed that nobody has, and accepted ones that contradict each other.
    """
    check(apply is None or apply.is_file(), "apply", apply, "an existing file")
    log = different_logs(log)
    elsewhere = [place for place in log if is_address(place)]
    if apply or withdraw:  # a decision in a copy would be lost
        check(not elsewhere, "log", " ".join(elsewhere), "the server's own file: carry it out on its machine")
    check(not out.is_file(), "out", out, "a folder")
    filled_in = sheets.read(apply) if apply else {}
    decisions = {answer: decision for answer, decision in filled_in.items() if decision[0]}
    check(not filled_in or bool(decisions), "apply", apply, "a table whose column review says accept or reject")
    with contextlib.ExitStack() as stack:  # all are opened before one is changed
        logs = [stack.enter_context(existing_log(place)) for place in log]
        check_disjoint(dict(zip(log, [[each.id for each in served.corrections()] for served in logs], strict=True)))
        carried_out = sum(served.review(decisions) for served in logs)
        withdrawn = sum(served.withdraw(withdraw) for served in logs)
        corrections = [each for served in logs for each in served.corrections()]
    unreviewed = [each for each in corrections if not each.review]
    waiting = unreviewed + contradicting([each for each in corrections if each.review == "accepted"])
    if apply:
        print(f"{counted(carried_out, 'correction')} reviewed, of {counted(len(decisions), 'decision')}")
        if carried_out < len(decisions):
            missed = counted(len(decisions) - carried_out, "decision")
            gone = "as the log has no such corrections, or of other labels, now"
            raise ValueError(f"{missed} not carried out, {gone}: review again, with --out and another folder")
        sheets.mark_applied(apply)
    if withdraw:
        print(f"{counted(withdrawn, 'correction')} taken back, of {counted(len(withdraw), 'id')}")
        if withdrawn < len(withdraw):
            raise ValueError(f"the log has no correction of {counted(len(withdraw) - withdrawn, 'id')}")
    if apply or withdraw or not waiting:
        print(f"{counted(len(waiting), 'correction')} to be reviewed")
        return
    if (table := out / sheets.TABLE).exists():
        reviewed = {each.id for each in corrections if each.review}
        _check_makes_room(table, {each.id for each in unreviewed}, reviewed, _how_to_apply(log, table))
    sheet, table = sheets.write(out, waiting[:AT_ONCE])
    shown = f"{AT_ONCE:,} of " if len(waiting) > AT_ONCE else ""
    print(
        f"{shown}{counted(len(waiting), 'correction')} to be reviewed: look at {printable(str(sheet))}, write accept or"
    )
    print(f"reject into the last column of {printable(str(table))}, and: {_how_to_apply(log, table)}")


def _check_makes_room(table: Path, unreviewed: set[str], reviewed: set[str], carry_out: str) -> None:
    """Raise `FieldError` if `table` was not carried out, and has rows of this log or decisions that it knows not of."""
    if sheets.was_applied(table):
        return
    rows = sheets.read(table)
    if rows.keys() & unreviewed:
        raise FieldError("out", f"has a table that someone may be filling in: {carry_out}, or name another folder")
    if others := sum(bool(decision) and answer not in reviewed for answer, (decision, _) in rows.items()):
        found = f"{counted(others, 'decision')} that the log does not have, in {printable(str(table))}"
        raise FieldError("out", f"has {found}: carry them out on theirs, move that file away, or name another folder")


def _how_to_apply(log: tuple[str, ...], table: Path) -> str:
    """Return the command that carries out a table, which only the machine of a log can do."""
    if any(map(is_address, log)):
        return f"on the server's machine, {review_command((str(FILE),), '--apply', table.name)}"
    return review_command(log, "--apply", str(table))
