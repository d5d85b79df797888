"""What a vision-language model is asked for, in words of our own; arXiv 2501.03575, section 3, publishes one line."""

from collections.abc import Sequence

from cosmos_curate.errors import InputError

PROMPTS = {
    "default": (
        "Describe this video clip in one paragraph of about a hundred words. Say what is seen and what happens, in "
        "the order in which it happens: people, animals and things, how they look and where they are; what they do "
        "and how they move and touch; the place, the light and the time of day; how the camera moves. Say only what "
        "can be seen. Do not speak of pictures or frames, do not guess at what is unseen, and begin at once."
    ),
    "short": (
        "Say in one sentence of at most thirty words what happens in this video clip, where, and how the camera moves. "
        "Say only what can be seen, do not speak of pictures or frames, and begin at once."
    ),
    "driving": (
        "This clip is seen from a vehicle. Describe it in one paragraph of a hundred words: the kind of road, its "
        "lanes, signs and signals; what the vehicle itself does, such as keeping its lane, turning, braking or "
        "waiting; other road users, where they are and what they do, in order; weather, light, and how wet or clear "
        "the road is. Say only what can be seen, do not speak of pictures or frames, and begin at once."
    ),
    "manipulation": (
        "Describe in one paragraph of about a hundred words how things are handled in this video clip: by whose hands "
        "or by what machine; which things, of what material, shape and colour; each grasp, move and release in order, "
        "and what changes by it; where the things end up; the surroundings and the viewpoint. Say only what can be "
        "seen, do not speak of pictures or frames, and begin at once."
    ),
}
"""By name; any other text of several words is a prompt itself."""


def prompt_text(prompt: str) -> str:
    """Return the text of a prompt that is given by name or itself.

    Raises:
        InputError: it is one word, and no name.
    """
    if prompt in PROMPTS:
        return PROMPTS[prompt]
    if len(prompt.split()) < 2:
        raise InputError(f"prompt is {prompt!r}: give one of {', '.join(PROMPTS)}, or a text of several words")
    return prompt.strip()


def question(prompt: str, times_s: Sequence[float]) -> str:
    """Return a prompt's text behind a line that says which pictures these are: how many, and when each is shown."""
    seconds = ", ".join(f"{time:.1f}" for time in times_s)
    what = "One frame" if len(times_s) == 1 else f"{len(times_s)} frames in order"
    return f"{what} of a video clip, shown at {seconds} s.\n{prompt_text(prompt)}"
