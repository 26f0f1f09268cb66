"""Settings of the server: its address, who may use it, and the limits that keep it alive."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field, fields
from pathlib import Path

from fastseg import environment
from fastseg.errors import OutputError, ServerError
from fastseg.images import MAX_PIXELS
from fastseg.inputs.numbers import real_number, whole_number
from fastseg.storage.paths import is_folder, user_path


class SettingError(ServerError, ValueError):
    """A setting of the server cannot be used."""

    def __init__(self, message: str) -> None:
        super().__init__(0, message)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on what requests may take. What is beyond them is refused, and the rest goes on."""

    max_bytes: int = 256 * 2**20
    """Largest upload in bytes."""

    max_json_bytes: int = 32 * 2**20
    """Largest body of any other request in bytes."""

    max_pixels: int = MAX_PIXELS
    """Largest height x width of an image, and a fourth of the pixels of all of its frames."""

    max_memory: int = 2 * 2**30
    """Bytes that all open images and their embeddings may take; the least used are closed."""

    max_images: int = 256
    """Images that are open at once; the least used are closed."""

    image_s: float = 1800.0
    """Seconds after its last use at which an image is closed."""

    max_prompts: int = 64
    """Prompts of one image in a request."""

    max_points: int = 1024
    """Points of all prompts of a request."""

    max_points_per_side: int = 64
    """Points along each side of the grid of everything mode."""

    workers: int = 0
    """Requests that compute at once; 0 is one for each core."""

    max_waiting: int = 64
    """Requests that wait for a worker; any further one gets 503 and a time to come back."""

    max_jobs: int = 4
    """Jobs of everything mode that run or wait."""

    upload_s: float = 120.0
    """Seconds that the body of a request may take to arrive."""

    request_s: float = 60.0
    """Seconds that a request may wait for its result."""

    job_s: float = 1800.0
    """Seconds that a job of everything mode may take."""

    send_s: float = 30.0
    """Seconds that a reader may take to accept a part of an answer."""

    def __post_init__(self) -> None:
        """Check every limit.

        Raises:
            SettingError: A limit is no number of its kind, or is too small.
        """
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name.endswith("_s"):
                real_number(value, one.name, SettingError, positive=True)
            else:
                least = 0 if one.name in ("workers", "max_waiting") else 1
                whole_number(value, one.name, SettingError, least=least)

    @property
    def worker_count(self) -> int:
        """Requests that compute at once."""
        return self.workers or environment.usable_cores()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The address of the server, who may use it, and its limits."""

    host: str = "127.0.0.1"
    """Address to listen at; without tokens only one of this machine."""

    port: int = 8765
    """Port to listen at, 0 for a free one."""

    tokens: tuple[str, ...] = ()
    """Bearer tokens, one of which a request must carry. An image belongs to its token."""

    origins: tuple[str, ...] = ()
    """Web origins whose pages may use the server, as ``https://name``; none by default."""

    root: Path | None = None
    """Folder whose images may be named by path; None takes uploads alone."""

    allow_anyone: bool = False
    """Listen at any address without tokens: everybody who reaches it may use the server."""

    page: bool = True
    """Send the page at ``/``; without it there is the API alone."""

    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            SettingError: The address needs tokens, a token is too short, or a value is malformed.
            OutputError: The root is no folder.
        """
        whole_number(self.port, "port", SettingError, least=0)
        if self.port > 65_535:
            raise SettingError(f"port must be at most 65535, not {self.port}.")
        for token in self.tokens:
            if len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token:
                raise SettingError(
                    "a token must have 16 letters and digits or more, without spaces. Make one by "
                    'python -c "import secrets; print(secrets.token_urlsafe())".'
                )
        for origin in self.origins:
            if not origin.startswith(("http://", "https://")) or origin.count("/") != 2:
                raise SettingError(
                    f"{origin!r} is no web origin. Write https://name or with :port."
                )
        if not (self.is_local or self.tokens or self.allow_anyone):
            raise SettingError(
                f"{self.host} can be reached from other machines, and there is no token. Give "
                "--token-file, listen at 127.0.0.1, or allow everybody by --allow-anyone."
            )
        if self.root is not None:
            root = user_path(self.root)
            if not is_folder(root, OutputError):
                raise OutputError(f"{self.root} is no folder, so no image can be opened in it.")
            object.__setattr__(self, "root", Path(os.path.realpath(root)))

    @property
    def is_local(self) -> bool:
        """Tell if the address is reached from this machine alone."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
