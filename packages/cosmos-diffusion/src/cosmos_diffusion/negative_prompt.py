"""The default negative prompt: what released models are guided away from where a person names nothing else."""

NEGATIVE_PROMPT = (
    "A badly made video. The picture is blurred, grainy and full of compression blocks, with washed-out colours, "
    "harsh over- or underexposed patches and visible watermarks or captions. The camera shakes and jumps between "
    "unrelated shots, or nothing moves at all and the clip is a frozen photograph. Motion stutters and flickers from "
    "frame to frame, textures crawl, and edges shimmer. Objects melt into one another, change their shape, appear or "
    "vanish without cause, float, pass through each other, and ignore gravity and contact. Hands, faces and limbs are "
    "deformed or have the wrong number of parts. Perspective and shadows contradict each other, and the scene looks "
    "like a crude computer rendering or a flat drawing instead of footage of a real place."
)
