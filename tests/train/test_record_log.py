"""What carries records from workers to driver, and a stop the other way."""

from saga_ray.train.record_log import RecordLog


def test_records_come_once_and_in_order() -> None:
    log = RecordLog()
    assert log.append({"step": 0}) and log.append({"step": 1})
    assert log.drain() == [{"step": 0}, {"step": 1}] and log.drain() == []


def test_a_record_after_a_stop_is_taken_and_says_so() -> None:
    log = RecordLog()
    log.stop()
    assert not log.append({"step": 2})
    assert log.drain() == [{"step": 2}]
