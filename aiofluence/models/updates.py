"""The new configuration of a container. Machines can only be renamed.

The service replaces the whole configuration, so an update holds a whole configuration, not a difference.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Self

import attrs

from .instances import Container
from .public_key import public_key_problem
from .specs import (
    SSH_VARIABLE,
    RegistryCredentials,
    name_problems,
    read_environment,
    settings_problems,
    ssh_doubts,
    ssh_problems,
)
from .values import Environment


@attrs.frozen(kw_only=True)
class ContainerUpdate:
    """A container's whole new configuration. Missing fields are removed. Exposed ports cannot change.

    Start from the current configuration with `from_container`. The fields are those of ContainerSpec.
    """

    name: str
    image: str
    environment: Environment = attrs.field(factory=Environment, converter=read_environment)
    startup_command: str | None = attrs.field(default=None, repr=False)
    credentials: RegistryCredentials | None = None
    ssh_key: str | None = attrs.field(default=None, repr=False)

    @classmethod
    def from_container(
        cls,
        container: Container,
        *,
        credentials: RegistryCredentials | None = None,
        **changes: Any,
    ) -> Self:
        """Make an update from the current configuration of `container`, with `changes` to any fields.

        This method handles two traps of the service. The detail shows the SSH key as the variable
        `SSH_PUBKEY`, which must not be sent together with `ssh_key`, so the key becomes `ssh_key` again. An
        `SSH_PUBKEY` that is not one public key stays a variable. The detail never shows `credentials`, so
        pass them again for an image in a private registry. Otherwise the container loses them.

        Raises:
            TypeError: an update does not have one of the changed fields.
        """
        info = container.container_info
        key, environment = info.environment.get(SSH_VARIABLE), info.environment
        if "ssh_key" in changes or key is None or public_key_problem(key) is None:
            environment = environment.without(SSH_VARIABLE)
        else:
            key = None
        now: dict[str, Any] = {
            "name": container.name,
            "image": info.image,
            "environment": environment,
            "startup_command": info.startup_command,
            "ssh_key": key,
        }
        return cls(credentials=credentials, **(now | changes))

    def problems(self) -> list[str]:
        """Return everything in this update that the service would refuse, one sentence each."""
        return [
            *name_problems(self.name),
            *settings_problems(self.image, self.environment, self.startup_command, self.credentials),
            *ssh_problems(self.ssh_key, self.environment),
        ]

    def doubts(self, own_images: Collection[str] = ()) -> list[str]:
        """Return reasons for which SSH will probably not work; see `ContainerSpec.doubts`."""
        return ssh_doubts(self, (), own_images)

    def is_shown_by(self, container: Container) -> bool:
        """Return True if `container` already has this configuration. `credentials` cannot be compared."""
        info = container.container_info
        expected: Mapping[str, str] = self.environment
        if self.ssh_key is not None:
            expected = {**self.environment, SSH_VARIABLE: self.ssh_key}
        return (
            container.name == self.name
            and info.image == self.image
            and info.environment == expected
            and (info.startup_command or None) == (self.startup_command or None)
        )
