"""Mistakes about grouped commits, which no schedule sees: the simulator has one thread, so each group is of one work.

The killer of these is a test with real threads on a real database, named in the mutant.
"""

from tests.mutants.mutant import Mutant

DB = "gateway_client/db.py"
ASYNC_DB = "gateway_client/async_db.py"
TOGETHER = "gateway_client/group_transaction.py"
POSTGRES = "gateway_client/postgres.py"
TESTS = "tests/test_group_commit.py"
WRITES = "tests/test_group_writes.py"

_SAVEPOINT = 'self._connection.exec_driver_sql("SAVEPOINT one_work")'

MUTANTS = (
    Mutant(
        "a send before its commit: a group that was not committed is told as done",
        DB,
        "            elif job.ended or (len(jobs) > 1 and not ended.committing):\n                job.end(alone=True)",
        "            elif job.ended or (len(jobs) > 1 and not ended.committing):\n                job.ended = True",
        test=f"{TESTS}::test_a_leader_that_is_interrupted[sqlite]",
    ),
    Mutant(
        "an unconfirmed group believed",
        DB,
        "            if ended is None:\n                job.ended = True",
        "            if ended is None or ended.committing:\n                job.ended = True",
        test=f"{TESTS}::test_a_commit_that_nobody_confirmed[sqlite-False]",
    ),
    Mutant(
        "an unconfirmed group is done again, whether it may be or not",
        DB,
        "error.connection_invalidated and (job.repeatable or not ended.committing)",
        "error.connection_invalidated",
        test=f"{TESTS}::test_a_commit_that_nobody_confirmed[sqlite-False]",
    ),
    Mutant(
        "a savepoint forgotten: what a work wrote before it failed is committed with the others",
        TOGETHER,
        'self._connection.exec_driver_sql("ROLLBACK TO SAVEPOINT one_work")',
        "pass",
        test=f"{TESTS}::test_a_work_that_fails_fails_alone[sqlite]",
    ),
    Mutant(
        "a savepoint forgotten: a work that fails takes along those before it, which are told as done",
        TOGETHER,
        f"        {_SAVEPOINT}",
        f'        if not hasattr(self, "_marked"):\n            {_SAVEPOINT}\n        self._marked = True',
        test=f"{TESTS}::test_a_work_that_fails_fails_alone[sqlite]",
    ),
    Mutant(
        "a word on another's work is believed, although that was undone",
        DB,
        "            if ended is None:\n                job.ended = True",
        "            if ended is None or job.ended:\n                job.ended = True",
        test=f"{TESTS}::test_a_work_that_failed_by_what_another_undid_is_done_again[sqlite]",
    ),
    Mutant(
        "a lock left out: a group decides about an intent that another transaction has",
        POSTGRES,
        "for intent_id, locked in zip(intent_ids, found, strict=True) if locked]",
        "for intent_id, locked in zip(intent_ids, found, strict=True)]",
        test=f"{TESTS}::test_a_work_that_waits_for_a_lock_holds_up_nobody",
    ),
    Mutant(
        "a lock left out: a work that is done alone decides about an intent that another transaction has",
        POSTGRES,
        "    if lock is not None:\n        asked +=",
        "    if False:\n        asked +=",
        test=f"{TESTS}::test_a_work_that_waits_for_a_lock_holds_up_nobody",
    ),
    Mutant(
        "a group waits for another transaction's lock as long as a single work may",
        DB,
        "ended = self._try(jobs, write=True, patient=False)",
        "ended = self._try(jobs, write=True, patient=True)",
        test=f"{WRITES}::test_a_row_that_somebody_locks_holds_up_nobody",
    ),
    Mutant(
        "two groups lock the same intents, each in its own order",
        "gateway_client/group_commit.py",
        'jobs.sort(key=lambda job: job.intent_id or "")',
        "pass",
        test=f"{TESTS}::test_a_group_is_in_the_order_of_its_intents",
    ),
    Mutant(
        "what a work has written in a group before it failed is written all the same, with what the others have",
        TOGETHER,
        "self._mine.append((write, rows, found))",
        "self._writes.add(write, rows, found=found)",
        test=f"{WRITES}::test_a_work_that_fails_writes_nothing[sync]",
    ),
    Mutant(
        "a work of a group reads before what others have written is there",
        TOGETHER,
        "        self.execute()\n        self._connection",
        "        self._connection",
        test=f"{WRITES}::test_a_work_that_reads_sees_what_was_written_before_it[sync]",
    ),
    Mutant(
        "an outcome is told, and its row was not as it was taken to be",
        TOGETHER,
        "if found and written != len(rows):",
        "if False:",
        test=f"{WRITES}::test_a_row_that_changed_meanwhile_is_read_first[sync]",
    ),
    Mutant(
        "what was written in part for several works is committed, when it is a reading one that has it written",
        TOGETHER,
        "if writes.failed or (isinstance(error, DBAPIError) and error.connection_invalidated):",
        "if isinstance(error, DBAPIError) and error.connection_invalidated:",
        test=f"{WRITES}::test_what_is_not_as_foreseen_undoes_the_group[sync]",
    ),
    Mutant(
        "an intent that has a finding is taken for an untouched one, in a group",
        "gateway_client/store/facts.py",
        "for intent_id in intent_ids if intent_id not in touched}",
        "for intent_id in intent_ids}",
        test=f"{WRITES}::test_an_intent_that_a_person_must_look_at[sync]",
    ),
    Mutant(
        "a task that was cancelled while it waited is committed all the same",
        ASYNC_DB,
        "self._waiting.withdraw(job)  # of a task",
        "pass  # of a task",
        test=f"{TESTS}::test_tasks_on_an_engine_of_the_caller_s",
    ),
)
