"""Uploads and couriers: what a station sends or carries, and what headquarters takes in.

Belongs here: options, progress and exit codes. Not here: any work (``pipeline/courier.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from outwatch.commands.shared import (
    AsJson,
    MountHeading,
    MountPitch,
    MountRoll,
    declared_mount,
    err,
    opened_pipeline,
    out,
    print_json,
    telling_errors,
)
from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.hosts import is_loopback
from outwatch.pipeline import courier, incoming
from outwatch.settings import load_settings


def upload(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(help="Cards, or folders with their files; none goes on with what was begun before."),
    ] = None,
    to: Annotated[str, typer.Option(help="Headquarters' upload server, as in https://hq.example.")] = "",
    usb: Annotated[Path | None, typer.Option(help="Write to this stick instead.")] = None,
    operator: Annotated[str, typer.Option(help="Who flew.")] = "",
    aircraft: Annotated[str, typer.Option(help="Aircraft, as you call it.")] = "",
    camera: Annotated[str, typer.Option(help="Camera and lens by name (`outwatch cameras`).")] = "",
    time_zone: Annotated[str, typer.Option(help="Zone of the aircraft's local time, as Asia/Karachi.")] = "",
    purpose: Annotated[str, typer.Option(help="Why it was flown.")] = "",
    mount_pitch: MountPitch = None,
    mount_heading: MountHeading = None,
    mount_roll: MountRoll = None,
    give_up_after: Annotated[
        float | None, typer.Option(help="Minutes without progress; never by default.", min=0)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send a card to headquarters over any link, or write it to a stick; run it again to go on."""
    told = {
        "operator": operator,
        "platform": aircraft,
        "camera": camera,
        "time_zone": time_zone,
        "purpose": purpose,
        **declared_mount(mount_pitch, mount_heading, mount_roll),
    }
    declared = {name: text for name, text in told.items() if text}
    waited = {} if give_up_after is None else {"give_up_after": give_up_after * 60}
    rows = []
    with telling_errors():
        settings = load_settings(**({"courier": waited} if waited else {}))
        todo: list[tuple[Path, Mapping[str, str], str]] = [(folder, declared, to) for folder in folders or []]
        if not folders:
            todo = [(item.folder, item.declared, item.url) for item in courier.waiting(settings)]
            if not todo:
                raise ConfigInvalid("nothing is waiting to be sent: name the card's folder")
        for folder, says, url in todo:
            with _shown() as watch:
                if usb is not None:
                    package, place = courier.write_to_stick(
                        settings, folder, declared=says, stick=usb, watch=watch
                    )
                    done = f"written to {place} and read back; take the stick out safely"
                else:
                    package = courier.send(settings, folder, declared=says, url=url, watch=watch)
                    done = "confirmed by headquarters, file by file"
            rows.append(
                {
                    "folder": str(folder),
                    "package": package.id,
                    "files": len(package.files),
                    "size_bytes": package.size_bytes,
                    "left_out": [{"path": left.path, "reason": left.reason} for left in package.left_out],
                }
            )
            if not as_json:
                size_mb, left_out = package.size_bytes / 1e6, len(package.left_out)
                line = f"{folder}: {len(package.files)} files, {size_mb:.1f} MB {done}; {left_out} left out"
                out.print(escape(line), highlight=False, soft_wrap=True)
    if as_json:
        print_json(rows)


def receive(
    folder: Annotated[Path, typer.Argument(help="A stick, or a folder with packages.")],
    as_json: AsJson = False,
) -> None:
    """Take in every package on a stick: each file's hash is checked, and what is here already is left."""
    with opened_pipeline() as pipeline:
        results = list(courier.receive(pipeline, folder))
        if not results:
            raise ConfigInvalid(f"{folder} holds no package: is it the right stick?")
        rows = [
            {
                "folder": str(item.folder),
                "package": item.package_id,
                "landed": item.counts.get("incoming_landed", 0),
                "known": item.counts.get("incoming_known", 0),
                "refused": [{"path": path, "reason": reason} for path, reason in item.refused],
                "reason": item.reason,
            }
            for item in results
        ]
        if as_json:
            print_json(rows)
        else:
            for row in rows:
                _show_received(row)
    raise typer.Exit(1 if any(row["refused"] or row["reason"] for row in rows) else 0)


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)
    ] = 8080,
) -> None:
    """Run the upload server; beyond this machine it asks for the token of ``uploads.token``."""
    import uvicorn

    from outwatch.console.app import create_app

    with telling_errors():
        settings = load_settings()
        if not is_loopback(host) and not settings.uploads.token.get_secret_value():
            raise ConfigInvalid(f"--host {host} is reached from elsewhere: set OUTWATCH_UPLOADS__TOKEN first")
        # asyncio's loop hands over each read before it sees the link's end: nothing that arrived is lost.
        uvicorn.run(
            create_app(settings),
            host=host,
            port=port,
            loop="asyncio",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=10,
        )


def uploads(as_json: AsJson = False) -> None:
    """List the packages on their way in, and how much of each has come."""
    with opened_pipeline() as pipeline:
        rows = incoming.arrivals(pipeline)
        if as_json:
            print_json(rows)
            return
        table = Table("package", "from", "files", "come", "of", "last moved", "refused")
        for row in rows:
            states = [file["state"] for file in row["files"]]
            table.add_row(
                row["id"],
                escape(row["client"]),
                f"{sum(state in {'confirmed', 'landed'} for state in states)} of {len(states)}",
                f"{row['received_bytes'] / 1e6:.1f} MB",
                f"{row['size_bytes'] / 1e6:.1f} MB",
                row["moved_at"][:16].replace("T", " "),
                escape("; ".join(file["reason"] for file in row["files"] if file["reason"])),
            )
        out.print(table)


def _show_received(row: dict[str, Any]) -> None:
    what = row["reason"] or f"{row['landed']} new, {row['known']} known, {len(row['refused'])} refused"
    out.print(f"{escape(row['folder'])}: {escape(what)}", highlight=False, soft_wrap=True)
    for file in row["refused"]:
        err.print(f"[bold red]refused[/] {escape(file['path'])}: {escape(file['reason'])}", highlight=False)


@contextmanager
def _shown() -> Iterator[courier.Watcher]:
    """Show bytes, rate and time to go while something is under way."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bars:
        task = bars.add_task("", total=None)

        def watch(progress: courier.Progress) -> None:
            text = f"{progress.name} ({progress.note})" if progress.note else progress.name
            bars.update(
                task,
                description=escape(text),
                completed=progress.done_bytes,
                total=progress.total_bytes or None,
            )

        yield watch
