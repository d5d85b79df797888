"""Networks that losses and measures need: frozen feature and flow networks, and the discriminator."""

from cosmos_posttrain.networks.discriminator import PatchDiscriminator as PatchDiscriminator
from cosmos_posttrain.networks.sources import FEATURE_NETWORKS as FEATURE_NETWORKS
from cosmos_posttrain.networks.sources import feature_network as feature_network
from cosmos_posttrain.networks.sources import flow_network as flow_network

__all__ = ["FEATURE_NETWORKS", "PatchDiscriminator", "feature_network", "flow_network"]
