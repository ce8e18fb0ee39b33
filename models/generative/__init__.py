"""Networks that make images: denoising networks, generators with their discriminators, autoencoders."""

from .codebooks import (
    AveragedCodebook,
    Codebook,
    Quantized,
    TrainedCodebook,
    follow,
    perplexity,
    quantize,
    revive,
    straight_through,
)
from .denoising_unet import DenoisingUNet
from .discriminators import DCGANDiscriminator, Discriminator, ResNetDiscriminator
from .dit import DiT
from .gan import NETWORKS
from .generators import DCGANGenerator, Generator, ResNetGenerator
from .vae import VAE, ConvVAE, DenseVAE, reparameterize
from .vqvae import VQVAE

__all__ = [
    "NETWORKS",
    "VAE",
    "VQVAE",
    "AveragedCodebook",
    "Codebook",
    "ConvVAE",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "DenoisingUNet",
    "DenseVAE",
    "DiT",
    "Discriminator",
    "Generator",
    "Quantized",
    "ResNetDiscriminator",
    "ResNetGenerator",
    "TrainedCodebook",
    "follow",
    "perplexity",
    "quantize",
    "reparameterize",
    "revive",
    "straight_through",
]
