"""Measures of a reconstruction: pixels, distances of feature sets, and the use of a codebook."""

from cosmos_tokenizer.metrics.bootstrap import RESAMPLES, Interval, bootstrap_interval
from cosmos_tokenizer.metrics.codes import CodeUsage
from cosmos_tokenizer.metrics.features import FeatureNetwork, ImageFeatures, VideoFeatures
from cosmos_tokenizer.metrics.frechet import FeatureStatistics, frechet_distance, sample_warning
from cosmos_tokenizer.metrics.lpips import LPIPS
from cosmos_tokenizer.metrics.pixels import (
    WINDOW,
    finite_mean,
    psnr_per_frame,
    psnr_per_video,
    squared_error_per_frame,
    ssim_per_frame,
)

__all__ = [
    "LPIPS",
    "RESAMPLES",
    "WINDOW",
    "CodeUsage",
    "FeatureNetwork",
    "FeatureStatistics",
    "ImageFeatures",
    "Interval",
    "VideoFeatures",
    "bootstrap_interval",
    "finite_mean",
    "frechet_distance",
    "psnr_per_frame",
    "psnr_per_video",
    "sample_warning",
    "squared_error_per_frame",
    "ssim_per_frame",
]
