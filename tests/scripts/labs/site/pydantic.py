"""pydantic: a class whose annotated attributes are fields."""


class BaseModel:
    def __init__(self, **values):
        for name in type(self).__annotations__:
            setattr(self, name, values.get(name, getattr(type(self), name, None)))
