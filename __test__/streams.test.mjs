import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import { after, before, test } from 'node:test'
import { crabbox, startSimulator } from './simulator.mjs'

let sim, lease
before(async () => {
  sim = await startSimulator()
  lease = await crabbox.acquire(sim.options)
})
after(async () => {
  await lease.release()
  assert.deepEqual(await sim.open(), [])
  await sim.close()
})

const MIB = 1024 * 1024
const sleep = (millis) => new Promise((resolve) => setTimeout(resolve, millis))

test('standard input reaches the command, in any form', async () => {
  const late = (async function* () {
    yield 'one '
    await sleep(20)
    yield Buffer.from('two')
  })()
  for (const stdin of ['one two', Buffer.from('one two'), late, Readable.from(['one ', 'two'])]) {
    assert.equal((await lease.exec(['cat'], { stdin })).stdout, 'one two')
  }
  assert.equal((await lease.exec(['cat'])).stdout, '')
})

test('much standard input arrives whole', async () => {
  const data = Buffer.alloc(8 * MIB, 'crabbox')
  const { stdout } = await lease.exec(['sha256sum'], { stdin: data })
  assert.equal(stdout.split(' ')[0], createHash('sha256').update(data).digest('hex'))
})

test('a command that reads nothing does not hang on its input', async () => {
  const endless = (async function* () {
    for (;;) yield Buffer.alloc(MIB)
  })()
  const { exitCode } = await lease.exec(['sh', '-c', 'exec 0<&-; exit 3'], { stdin: endless })
  assert.equal(exitCode, 3)
})

test('50 MB of output stream in little memory, and the event loop turns all the while', async () => {
  global.gc?.()
  const before = process.memoryUsage.rss()
  let [bytes, most, ticks, worst, last] = [0, 0, 0, 0, performance.now()]
  const ticking = setInterval(() => {
    const now = performance.now()
    worst = Math.max(worst, now - last - 5)
    last = now
    ticks += 1
    most = Math.max(most, process.memoryUsage.rss())
  }, 5)
  const began = performance.now()
  const onStdout = (data) => (bytes += data.length)
  const command = lease.exec(['head', '-c', String(50 * MIB), '/dev/zero'], { encoding: 'buffer', maxBuffer: MIB, onStdout })
  const result = await command
  clearInterval(ticking)
  const took = performance.now() - began
  assert.deepEqual([bytes, result.stdout.length, result.truncated, result.exitCode], [50 * MIB, MIB, true, 0])
  assert.ok(ticks > took / 100, `${ticks} ticks in ${took} ms`)
  assert.ok(worst < 500, `the event loop stood still for ${worst} ms`)
  assert.ok(most - before < 200 * MIB, `${(most - before) / MIB} MiB more`)
})

test('a reader that is slow holds the command back', async () => {
  let [bytes, pieces] = [0, 0]
  for await (const { data } of lease.exec(['head', '-c', String(8 * MIB), '/dev/zero'], { encoding: 'buffer' })) {
    bytes += data.length
    if ((pieces += 1) <= 20) await sleep(10)
  }
  assert.equal(bytes, 8 * MIB)
})

test('commands run side by side', async () => {
  const began = performance.now()
  const results = await Promise.all([1, 2, 3, 4].map((n) => lease.exec({ shell: `sleep 0.5; echo ${n}` })))
  assert.deepEqual(results.map(({ stdout }) => stdout.trim()), ['1', '2', '3', '4']) // prettier-ignore
  assert.ok(performance.now() - began < 1900)
})

test('a command may run while the output of another one waits', async () => {
  const inner = []
  let bytes = 0
  for await (const { data } of lease.exec(['head', '-c', String(8 * MIB), '/dev/zero'], { encoding: 'buffer' })) {
    bytes += data.length
    if (inner.length < 3) inner.push((await lease.exec(['echo', 'inner'])).stdout)
  }
  assert.deepEqual([bytes, inner], [8 * MIB, ['inner\n', 'inner\n', 'inner\n']])
})

test('an abort ends the remote command', async () => {
  const controller = new AbortController()
  const reason = new Error('enough')
  let pid
  const onStdout = (data) => {
    pid = data.trim()
    controller.abort(reason)
  }
  await assert.rejects(lease.exec({ shell: 'echo $$; exec sleep 60' }, { signal: controller.signal, onStdout }), reason)
  for (let tries = 0; tries < 50; tries += 1) {
    const { exitCode } = await lease.exec({ shell: `kill -0 ${pid}` })
    if (exitCode !== 0) return
    await sleep(50)
  }
  assert.fail('the command runs on')
})

test('a signal that ended a command is told', async () => {
  assert.deepEqual(await lease.exec({ shell: 'kill -KILL $$' }), { exitCode: null, signal: 'KILL', stdout: '', stderr: '', truncated: false })
  assert.equal((await lease.exec(['no-such-program'])).exitCode, 127)
})
