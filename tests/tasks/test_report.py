"""What a person reads of the gate's decision."""

from mnist_pipeline.tracking.gate import Check
from mnist_pipeline.tracking.ledger import LedgerEntry
from tasks.report import decision

ENTRY = LedgerEntry(
    version=2,
    action="rejected",
    champion_before=1,
    champion=1,
    reasons=("accuracy 96.99 % (required: at least 97.00 %)",),
    checks=(
        Check("floor", False, "accuracy 96.99 %, the champion's 97.40 %", "at least 97.00 %", "floor"),
        Check("recall", True, "recall falls by up to 0.50 points (class 7)", "at most 2.00 points", "recall_margin"),
    ),
)


def test_each_check_of_the_gate_is_printed_with_what_is_required_and_its_option() -> None:
    first, *table, _, _ = decision(ENTRY).splitlines()
    assert first == "Version 2 rejected: accuracy 96.99 % (required: at least 97.00 %)"
    assert table == [
        "check   result  found                                        required             option",
        "floor   FAILED  accuracy 96.99 %, the champion's 97.40 %     at least 97.00 %     --floor",
        "recall  passed  recall falls by up to 0.50 points (class 7)  at most 2.00 points  --recall-margin",
    ]


def test_the_decision_explains_what_is_won_and_which_way_p_points() -> None:
    assert "near 1 for a better version" in " ".join(decision(ENTRY).split())
