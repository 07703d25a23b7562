import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, connect } from 'node:net'
import { after, before, test } from 'node:test'
import { crabbox, startSimulator } from './simulator.mjs'

let sim, lease
before(async () => {
  sim = await startSimulator()
  lease = await crabbox.acquire({ ...sim.options, slug: 'desk' })
})
after(async () => {
  await lease.release()
  await sim.nothingLeft()
  await sim.close()
})

const decoder = new TextDecoder()

test('a shell has a terminal with a size, and tells how it ended', async () => {
  const shell = await lease.shell({ columns: 101, rows: 33 })
  shell.stdin.write('stty size\n')
  let shown = ''
  for await (const data of shell) {
    shown += decoder.decode(data)
    if (shown.includes('33 101') && !shell.stdin.writableEnded) {
      shell.resize({ columns: 90, rows: 20 })
      // a size and what is typed go separate ways: whichever comes first
      shell.stdin.end("until stty size | grep -q '^20 9[0]$'; do sleep 0.05; done; stty size; exit 3\n")
    }
  }
  assert.match(shown, /20 90/)
  assert.deepEqual(await shell.exit, { exitCode: 3, signal: null })
  await shell.close()
})

test('a command may stand in place of the login shell; a reader that leaves does not hold it', async () => {
  const shell = await lease.shell({ command: { shell: 'tty; yes | head -c 1000000; exit 5' } })
  for await (const data of shell.output) {
    assert.match(decoder.decode(data), /\/dev\/pts|not a tty/)
    break
  }
  assert.equal((await shell.exit).exitCode, 5)
})

test('closing hangs up, a signal rejects with its reason, and wrong sizes are refused', async () => {
  const shell = await lease.shell()
  await shell.close()
  await assert.rejects(shell.exit, { code: 'cancelled' })
  const reason = new Error('enough')
  const controller = new AbortController()
  const other = await lease.shell({ signal: controller.signal })
  controller.abort(reason)
  await assert.rejects(other.exit, reason)
  await assert.rejects(lease.shell({ signal: AbortSignal.abort(reason) }), reason)
  for (const columns of [0, -1, 1.5, 70_000, '80']) await assert.rejects(lease.shell({ columns }), { code: 'invalid_argument' })
  await assert.rejects(lease.shell({ command: 'ls' }), { code: 'invalid_argument' })
  assert.throws(() => new crabbox.Shell(), TypeError)
})

test('a tunnel leads to the instance until it is closed', async () => {
  const server = createServer((socket) => socket.pipe(socket)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  const tunnels = [await lease.tunnel(`0:127.0.0.1:${port}`), await crabbox.tunnel('desk', [`0:127.0.0.1:${port}`], sim.options)]
  for (const tunnel of tunnels) {
    const [forward] = tunnel.forwards
    assert.deepEqual([tunnel.lease, forward.port, forward.address], [lease.id, port, `127.0.0.1:${forward.local}`])
    const socket = connect(forward.local, '127.0.0.1')
    socket.write('echo')
    assert.equal(String((await once(socket, 'data'))[0]), 'echo')
    socket.destroy()
    await tunnel.close()
    assert.equal(await tunnel.closed, undefined)
    await assert.rejects(once(connect(forward.local, '127.0.0.1'), 'connect'), { code: 'ECONNREFUSED' })
  }
  assert.equal((await lease.exec(['echo', 'still'])).stdout, 'still\n')
  server.close()
})

test('the signal of a tunnel closes it, and ports that make no sense are refused', async () => {
  const controller = new AbortController()
  const tunnel = await lease.tunnel('0:80', { signal: controller.signal })
  controller.abort()
  await tunnel.closed
  await assert.rejects(lease.tunnel('0:80', { signal: AbortSignal.abort() }), { name: 'AbortError' })
  for (const forward of ['x', '80:0', 70_000]) await assert.rejects(lease.tunnel(forward), { code: 'invalid_argument' })
  assert.throws(() => new crabbox.Tunnel(), TypeError)
})
