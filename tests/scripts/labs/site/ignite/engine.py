"""ignite: an engine calls a process function for each batch."""

from types import SimpleNamespace


class Events:
    ITERATION_COMPLETED = "iteration completed"


class Engine:
    def __init__(self, process_function):
        self._process, self._handlers = process_function, []
        self.state = SimpleNamespace(iteration=0, output=None)

    def on(self, event):
        return self._handlers.append

    def run(self, data, max_epochs=1):
        for _ in range(max_epochs):
            for batch in data:
                self.state.iteration += 1
                self.state.output = self._process(self, batch)
                for handler in self._handlers:
                    handler(self)
