"""How far a run is, in video-hours: a bar on a terminal, a line now and then elsewhere; on standard output."""

import sys
import time
from types import TracebackType


class Progress:
    """Counts seconds of video that are done; to be used in a `with`.

    Args:
        total_s: of all videos; 0 if not known yet.
        every_s: between lines where there is no terminal.
    """

    def __init__(self, total_s: int | float = 0, *, every_s: int | float = 5) -> None:
        self.total_s, self.done_s, self.every_s = total_s, 0.0, every_s
        self.out = sys.stdout
        self.clips = 0
        self._skipped_s = 0.0
        self._started = self._last = time.monotonic()
        self._bar = None
        if self.out.isatty():
            from tqdm import tqdm

            form = "{percentage:3.0f}% |{bar}| {n:.2f} of {total:.2f} video-hours, {elapsed} gone{postfix}"
            self._bar = tqdm(total=total_s / 3600, file=self.out, bar_format=form, dynamic_ncols=True, leave=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self.clips or self.done_s:
            self._write()

    def more(self, video_s: int | float) -> None:
        """Add video that is still to be done."""
        self.total_s += video_s
        if self._bar is not None:
            self._bar.total = self.total_s / 3600

    def add(self, video_s: int | float, *, reused: bool = False) -> None:
        """Add a clip that is done; one that was reused says nothing of the speed."""
        self.clips += 1
        self.done_s += video_s
        self._skipped_s += video_s if reused else 0
        if self._bar is not None:
            self._bar.set_postfix_str(self._rest(), refresh=False)
            self._bar.update(min(video_s / 3600, max(0.0, self._bar.total - self._bar.n)))
        elif time.monotonic() - self._last >= self.every_s:
            self._write()

    def eta_s(self) -> float | None:
        """Return the seconds that are left at the speed so far, or None while that is not known."""
        worked_s = self.done_s - self._skipped_s
        left_s = max(0.0, self.total_s - self.done_s)
        return left_s * (time.monotonic() - self._started) / worked_s if worked_s > 0 else None

    def _rest(self) -> str:
        eta_s = self.eta_s()
        minutes = (
            "unknown" if eta_s is None else f"{int(eta_s) // 3600}:{int(eta_s) // 60 % 60:02}:{int(eta_s) % 60:02}"
        )
        return f"{self.clips} clips, {minutes} left"

    def _write(self) -> None:
        self._last = time.monotonic()
        print(
            f"{self.done_s / 3600:.3f} of {self.total_s / 3600:.3f} video-hours, {self._rest()}",
            file=self.out,
            flush=True,
        )
