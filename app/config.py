"""The settings of a process: read once from the environment and passed down."""

import os
import platform
import re
from functools import cached_property
from pathlib import Path

from pydantic import AliasChoices, ByteSize, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

DEFAULT_PORT = 7860
NAME = r"^[\w.-]+$"  # of a node and of a label: what may stand in the name of a queue
LONGEST_NODE_NAME, LONGEST_LABEL = 200, 100


def default_data_dir() -> Path:
    """The user's data home, as the XDG base directory specification names it."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "training-control-center"


def machine_name() -> str:
    """The machine's name, with only what may stand in the name of a queue."""
    return re.sub(r"[^\w.-]", "-", platform.node()) or "node"


class Settings(BaseSettings):
    """Every setting, from `TRAINCTL_NAME` in the environment (`REDIS_URL` keeps its usual name)."""

    model_config = SettingsConfigDict(env_prefix="TRAINCTL_", extra="ignore", populate_by_name=True)

    data_dir: Path = Field(default_factory=default_data_dir, description="where everything is kept, mode 0700")
    host: str = Field("127.0.0.1", description="address the pages and the API listen on")
    port: int = Field(DEFAULT_PORT, ge=1, le=65535, description="port the pages and the API listen on")
    allowed_hosts: str = Field("", description="further host names the pages answer to, separated by commas")
    redis_url: str | None = Field(
        None,
        validation_alias=AliasChoices("REDIS_URL", "TRAINCTL_REDIS_URL", "redis_url"),
        description="a broker of your own instead of the embedded one",
    )
    lease_s: float = Field(60.0, ge=1, description="seconds without a beat after which a job is taken from its worker")
    max_upload_bytes: int = Field(64 * 2**30, ge=1, description="largest dataset taken, in bytes")
    free_space_floor: ByteSize = Field(
        ByteSize(2 * 10**9), ge=0, description="bytes that uploads and new jobs must leave free, such as 2GB"
    )
    hub: bool = Field(True, description="whether base models may be downloaded from the Hugging Face Hub")
    model_roots: str = Field("", description=f"folders with base models, separated by {os.pathsep!r}")
    default_model: str | None = Field(None, description="the base model of the inbox, which the form proposes too")
    default_recipe: str | None = Field(None, description="the recipe of the inbox, which the form proposes too")
    inbox: Path | None = Field(
        None, description="folder whose files are trained; `inbox` in the data directory unless given"
    )
    inbox_error_share: float = Field(
        0.05, ge=0, le=1, description="share of lines in error that keeps a file from training"
    )
    server_url: str | None = Field(None, description="worker: address of the control center")
    token_file: Path | None = Field(None, description="worker: file with the worker token")
    node_name: str = Field(default_factory=machine_name, description="worker: name of this machine")
    gpus: str = Field("", description="worker: GPUs that become a lane each, such as 0,1; all unless given")
    lanes: str = Field("", description="worker: groups of GPUs that become a lane each, such as 0;1,2")
    labels: str = Field("", description="worker: labels of its lanes, separated by commas")
    lane: str = Field("cpu", description="worker: name of the lane this process serves")
    worker_dir: Path | None = Field(None, description="worker: where jobs, datasets and models are kept")
    cache_limit: ByteSize = Field(
        ByteSize(50 * 10**9), description="worker: bytes of datasets and base models kept, such as 50GB"
    )
    kernel_log: Path = Field(Path("/dev/kmsg"), description="worker: the kernel's log, read to explain a crash")
    stop_grace_s: float = Field(300.0, ge=0, description="worker: seconds a trainer may take to save and stop")

    @property
    def base_url(self) -> str:
        """The address of the control center as this machine reaches it."""
        if self.server_url:
            return self.server_url.rstrip("/")
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def worker_token_path(self) -> Path:
        return self.token_file or self.data_dir / "worker-token"

    @property
    def work_path(self) -> Path:
        return self.worker_dir or self.data_dir / "worker"

    @property
    def inbox_path(self) -> Path:
        return self.inbox or self.data_dir / "inbox"

    @property
    def label_list(self) -> list[str]:
        return [one.strip() for one in self.labels.split(",") if one.strip()]

    @cached_property
    def model_root_paths(self) -> list[Path]:
        """Folders in which a base model is looked for by its name."""
        named = [Path(one) for one in self.model_roots.split(os.pathsep) if one]
        return [self.data_dir / "models", *named]
