#!/usr/bin/env python3
"""Apache Kafka 3.9's own command-line tools against Ottla and against Apache Kafka 3.9: the same
commands in the same order must print the same text and exit with the same code.

Every row is one command. What differs by nature (ports, random ids, times, paths) is normalised
in `tool_rows.py`; differences that we accept are rows of ACCEPTED, each with its reason.
"""

import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from cases import NotRun, Suite  # noqa: E402
from harness import TOOLS, Kafka, Ottla, ZooKeeper, archive_tool_classes, have_kafka, kafka_tool  # noqa: E402
from tool_rows import comparable, difference, rows  # noqa: E402

# Rows whose output differs for a reason: name -> (reason, function applied to both outputs).
def _advertised_only(text):
    """Rows of APIs that this version does not offer yet are left out on both sides."""
    later = {"SaslHandshake", "SaslAuthenticate", "AddPartitionsToTxn", "AddOffsetsToTxn", "EndTxn", "WriteTxnMarkers",
             "TxnOffsetCommit", "DescribeAcls", "CreateAcls", "DeleteAcls", "CreateDelegationToken",
             "RenewDelegationToken", "ExpireDelegationToken", "DescribeDelegationToken", "DescribeClientQuotas",
             "AlterClientQuotas", "DescribeUserScramCredentials", "AlterUserScramCredentials", "Envelope",
             "DescribeTransactions", "ListTransactions"}
    lines = []
    for line in text.splitlines():
        name = re.match(r"\s*(\w+)\(\d+\):", line)
        if name and name.group(1) in later:
            continue
        lines.append(line.rstrip(","))
    return "\n".join(lines)


ACCEPTED = {
    "broker-api-versions": ("APIs of transactions, security and client quotas are not offered yet", _advertised_only),
}

def run_row(name, tool, arguments, stdin, broker):
    return comparable(name, tool, kafka_tool(TOOLS[tool], *arguments, stdin=stdin), broker)


def main():
    suite = Suite("kafka-tools")
    if not have_kafka():
        def missing():
            raise NotRun("Apache Kafka 3.9's jars are not here (mvn, Maven Central)")
        suite.case("all", missing)
        suite.finish()
    with ZooKeeper() as zk1, ZooKeeper() as zk2, \
            Kafka(zookeeper=zk1) as reference, SUBJECT(zookeeper=zk2) as subject:
        archive_tool_classes(reference.bootstrap)
        reference_rows = rows(reference)
        subject_rows = rows(subject)
        for (name, tool, arguments, stdin), (_, _, our_arguments, _) in zip(reference_rows, subject_rows):
            def compare(name=name, tool=tool, arguments=arguments, our_arguments=our_arguments, stdin=stdin):
                expected = run_row(name, tool, arguments, stdin, reference)
                actual = run_row(name, tool, our_arguments, stdin, subject)
                if name in ACCEPTED:
                    change = ACCEPTED[name][1]
                    expected = (expected[0], change(expected[1]), change(expected[2]))
                    actual = (actual[0], change(actual[1]), change(actual[2]))
                assert expected == actual, difference(expected, actual)
            suite.case(name, compare)
    suite.finish()


# `run.py kafka` compares Kafka with a second Kafka: every row must pass, or the row is not fair.
SUBJECT = Kafka if sys.argv[1:] == ["kafka"] else Ottla

if __name__ == "__main__":
    main()
