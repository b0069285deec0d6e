from __future__ import annotations

import pytest

from airflow_provider_axtx.core.tracker_url import split_connection


@pytest.mark.parametrize(
    ("tracker_base", "conn_id", "address"),
    [
        ("s3://aws_default@bucket/a/b", "aws_default", "s3://bucket/a/b"),
        ("s3://aws_default@bucket.of.mine", "aws_default", "s3://bucket.of.mine"),
        ("gs://google@bucket/a@b", "google", "gs://bucket/a@b"),
        ("abfs://azure@container/a", "azure", "abfs://container/a"),
        ("s3://bucket/a", None, "s3://bucket/a"),
        ("s3://bucket/a@b", None, "s3://bucket/a@b"),
        ("s3://key:secret@bucket/a", None, "s3://key:secret@bucket/a"),
        ("abfs://container@account.dfs.core.windows.net/a", None, "abfs://container@account.dfs.core.windows.net/a"),
        ("sftp://user@host/a", None, "sftp://user@host/a"),
        ("/shared/a@b", None, "/shared/a@b"),
    ],
)
def test_the_connection_in_a_tracker_base(tracker_base: str, conn_id: str | None, address: str) -> None:
    assert split_connection(tracker_base) == (conn_id, address)
