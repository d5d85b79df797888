"""The manifest: one row a clip, dropped and quarantined ones too, as Parquet of equal bytes for equal rows."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cosmos_curate.errors import InputError
from cosmos_curate.schema import COLUMNS, VERSION, arrow_schema

if TYPE_CHECKING:
    import pyarrow as pa

    from cosmos_curate.engine.storage import Store

FILE, PARTS = "manifest.parquet", "manifest"
EMBEDDINGS, LANCE = "embeddings.parquet", "manifest.lance"
MOST_ROWS = 1_000_000
"""Of one file; more rows go to parts in a folder."""

_BATCH = 10_000


def to_table(rows: Iterable[Mapping[str, Any]]) -> "pa.Table":
    """Return rows as a table of the manifest's schema, by source and time; what a row lacks is null."""
    import pyarrow as pa

    schema, batches = arrow_schema(), []
    for group in _groups(rows, _BATCH):
        batches.append(
            pa.RecordBatch.from_pylist([{c.name: row.get(c.name) for c in COLUMNS} for row in group], schema)
        )
    table = pa.Table.from_batches(batches, schema)
    return table.sort_by([("source", "ascending"), ("start_s", "ascending"), ("clip_id", "ascending")])


def take(table: "pa.Table", places: Sequence[int]) -> "pa.Table":
    """Return these rows of the table; none of them is a table too."""
    import pyarrow as pa

    return table.take(pa.array(places, pa.int64()))


def files(table: "pa.Table") -> list[str]:
    """Return for each row the clip whose file and embedding it has: of files with equal bytes the first by name."""
    first: dict[tuple[Any, ...], str] = {}
    spans = zip(*(table[name].to_pylist() for name in ("source_sha256", "start_s", "end_s", "clip_id")), strict=True)
    return [identity if span[1] is None else first.setdefault(tuple(span), identity) for *span, identity in spans]


def with_columns(table: "pa.Table", columns: Mapping[str, Sequence[Any]]) -> "pa.Table":
    """Return the table with these columns in the place of its own of the same names."""
    import pyarrow as pa

    for name, values in columns.items():
        field = table.schema.field(name)
        table = table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))
    return table


def write_manifest(store: "Store", table: "pa.Table", *, models: Mapping[str, str]) -> None:
    """Write the manifest; `models` are sha256 of weights by name, which its metadata keep."""
    import pyarrow as pa

    said = {"cosmos_curate.schema": VERSION} | {f"cosmos_curate.model.{name}": models[name] for name in sorted(models)}
    # A table that was read has more in its schema than one that was made, and other chunks.
    table = pa.Table.from_arrays(table.combine_chunks().columns, schema=arrow_schema().with_metadata(said))
    if len(table) <= MOST_ROWS:
        store.write_whole(FILE, to_parquet(table))
        stale = store.list(PARTS)
    else:
        parts = range(-(-len(table) // MOST_ROWS))
        for part in parts:
            store.write_whole(f"{PARTS}/{part:05}.parquet", to_parquet(table.slice(part * MOST_ROWS, MOST_ROWS)))
        stale = [FILE] if store.exists(FILE) else []
        stale += [name for name in store.list(PARTS) if int(name[-13:-8]) >= len(parts)]
    for name in stale:
        store.remove(name)


def write_lance(store: "Store", table: "pa.Table") -> None:
    """Write the rows as a Lance dataset too; each write is a version of its own, and readers take the newest.

    Raises:
        InputError: Lance is not installed.
        OutputError: it cannot be written.
    """
    from cosmos_curate.engine.storage import failing

    check_lance()
    import lance

    with failing(store, LANCE):
        lance.write_dataset(table, store.path(LANCE) if store.is_local else f"{store.url}/{LANCE}", mode="overwrite")


def check_lance() -> None:
    """Look whether Lance is installed.

    Raises:
        InputError: it is not.
    """
    try:
        import lance as lance
    except ImportError:
        raise InputError("a Lance dataset needs a package: pip install cosmos-curate[lance]") from None


def read_manifest(store: "Store") -> "pa.Table":
    """Return the manifest of an output folder.

    Raises:
        InputError: there is none, or it is of a schema that this version does not know.
    """
    import pyarrow as pa

    names = [FILE] if store.exists(FILE) else sorted(store.list(PARTS))
    if not names:
        raise InputError(f"{store.url}: holds no {FILE}; name the output folder of a finished run")
    tables = []
    for name in names:
        try:
            tables.append(from_parquet(store.read_bytes(name)))
        except pa.ArrowInvalid as error:
            raise InputError(f"{store.url}/{name}: cannot be read ({error}); run again to make it anew") from error
    table = pa.concat_tables(tables)
    said = (table.schema.metadata or {}).get(b"cosmos_curate.schema", b"none").decode()
    if said.partition(".")[0] != VERSION.partition(".")[0]:
        raise InputError(f"{store.url}: manifest of schema {said}, and this version reads {VERSION}; run again")
    return table


def models_of(table: "pa.Table") -> dict[str, str]:
    """Return sha256 of the weights that scored the clips, by name."""
    prefix = b"cosmos_curate.model."
    found = table.schema.metadata or {}
    return {k.removeprefix(prefix).decode(): found[k].decode() for k in sorted(found) if k.startswith(prefix)}


def to_parquet(table: "pa.Table") -> bytes:
    """Return the table as a Parquet file; nothing in it tells when or where it was made."""
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=_BATCH, version="2.6")
    return sink.getvalue()


def from_parquet(data: bytes) -> "pa.Table":
    """Return the table of a Parquet file.

    Raises:
        pyarrow.ArrowInvalid: it is none.
    """
    import pyarrow.parquet as pq

    # Arrow's pool of threads, which read_table starts, sometimes aborts a short command as the process ends.
    return pq.ParquetFile(io.BytesIO(data)).read(use_threads=False)


def _groups(rows: Iterable[Mapping[str, Any]], size: int) -> Iterator[list[Mapping[str, Any]]]:
    group: list[Mapping[str, Any]] = []
    for row in rows:
        group.append(row)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
