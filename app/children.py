"""Child processes of the web process that answer once."""

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE

from app.processes import die_with_parent


async def output_of(*arguments: str) -> bytes | None:
    """What `python ARGUMENTS` prints; None where it failed. It ends with us, and when nobody waits for it any more."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdin=DEVNULL, stdout=PIPE, preexec_fn=die_with_parent()
    )
    try:
        told, _ = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return None if child.returncode else told
