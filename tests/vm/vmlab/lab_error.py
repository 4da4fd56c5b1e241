"""The one exception of the lab: a message for people, which says what to do next where we know it."""


class LabError(Exception):
    pass
