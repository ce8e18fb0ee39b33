"""The pairs of networks of generative adversarial networks: DCGAN's and residual ones.

A generator makes images in [−1, 1] from latent vectors; a discriminator gives each image a score, higher for real
ones (Radford et al. 2015; Gulrajani et al. 2017; Miyato et al. 2018). Where there are classes, generators read them
beside the latent vector, and discriminators by projection (Miyato & Koyama 2018). How the two are trained against each
other is not here.
"""

from __future__ import annotations

from .discriminators import DCGANDiscriminator, Discriminator, ResNetDiscriminator
from .generators import DCGANGenerator, Generator, ResNetGenerator

# name -> (generator, discriminator)
NETWORKS: dict[str, tuple[type[Generator], type[Discriminator]]] = {
    "dcgan": (DCGANGenerator, DCGANDiscriminator),
    "resnet": (ResNetGenerator, ResNetDiscriminator),
}
