"""The requests, by what they are about; ``ROUTERS`` lists those that take a person, ``public`` the few that take anybody."""
