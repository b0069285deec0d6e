"""URLs of object stores that name the Airflow connection with the credentials: ``s3://CONNECTION@bucket/prefix``.

It is the form of Airflow's ``ObjectStoragePath``. An app runs outside of Airflow, so that it gets the URL without the
connection.
"""

from __future__ import annotations

from urllib.parse import urlsplit

#: Schemes of object stores. In other URLs, such as ``sftp://user@host/folder``, the part before the ``@`` is a login.
_OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss")


def is_object_store(tracker_base: str) -> bool:
    """Return whether a tracker base is in an object store."""
    return urlsplit(tracker_base).scheme in _OBJECT_STORES


def split_connection(tracker_base: str) -> tuple[str | None, str]:
    """Return the id of the Airflow connection in a tracker base (None if it names none), and the URL without it.

    ``abfs://container@account.dfs.core.windows.net/folder`` names no connection: it is Azure's own form.
    """
    url = urlsplit(tracker_base)
    conn_id, at, place = url.netloc.rpartition("@")
    if url.scheme not in _OBJECT_STORES or not at or not conn_id or ":" in conn_id:
        return None, tracker_base
    if url.scheme.startswith("abfs") and "." in place:
        return None, tracker_base
    return conn_id, url._replace(netloc=place).geturl()
