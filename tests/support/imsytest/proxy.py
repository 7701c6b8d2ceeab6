"""A TCP relay before a registry: counts what goes over the wire, and can make it slow.

One relay per way of pulling, all before the same registry: so the bytes of each are counted
by the same measure, HTTP headers included.
"""

import asyncio
import threading

_PIECE = 64 * 1024


class Relay:
    """Forwards connections from a free port of loopback to another port.

    latency: seconds by which answers are delayed; one way, so it is the whole round trip.
    rate: bytes per second to the client, over all connections together; None: unlimited.
    """

    def __init__(self, box, target_port, latency=0.0, rate=None):
        self.port = None
        self._target = target_port
        self._latency = latency
        self._rate = rate
        self._down = self._up = self._connections = 0
        self._free_at = 0.0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait()
        self.address = f"127.0.0.1:{self.port}"
        box.callback(self.stop)

    @property
    def bytes_down(self):
        """Bytes that went from the registry to its client so far."""
        return self._down

    @property
    def bytes_up(self):
        return self._up

    @property
    def connections(self):
        return self._connections

    def stop(self):
        if self._loop.is_running():
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self):
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._connection, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _connection(self, reader, writer):
        self._connections += 1
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        try:
            await asyncio.gather(self._copy(reader, far_writer, False),
                                 self._copy(far_reader, writer, True))
        finally:
            writer.close()
            far_writer.close()

    async def _copy(self, reader, writer, down):
        """One direction; what arrives late leaves late, but in a stream, not piece by piece."""
        queue = asyncio.Queue(maxsize=64)
        sender = asyncio.ensure_future(self._send(queue, writer, down))
        try:
            while piece := await reader.read(_PIECE):
                await queue.put((self._loop.time(), piece))
        except OSError:
            pass
        await queue.put((0, b""))
        await sender

    async def _send(self, queue, writer, down):
        try:
            while True:
                arrived, piece = await queue.get()
                if not piece:
                    break
                if down:
                    await self._pace(arrived, len(piece))
                    self._down += len(piece)
                else:
                    self._up += len(piece)
                writer.write(piece)
                await writer.drain()
            writer.write_eof()
        except OSError:
            writer.close()
            while (await queue.get())[1]:  # so that the reading side can end
                pass

    async def _pace(self, arrived, size):
        now = self._loop.time()
        due = arrived + self._latency
        if self._rate:
            self._free_at = max(self._free_at, due) + size / self._rate
            due = self._free_at
        if due > now:
            await asyncio.sleep(due - now)
