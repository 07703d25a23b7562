import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { fixture } from './fake.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))

/** Runs a script over the stand-in; `act` gets the child when it first writes. */
function run(script, act = () => {}) {
  const env = { ...process.env, NAPI_RS_NATIVE_LIBRARY_PATH: fixture, FAKE_TRACE: '1' }
  const wrapped = `const crabbox = require('crabbox-vast'); (async () => { ${script} })()`
  const child = spawn(process.execPath, ['-e', wrapped], { cwd: root, env, timeout: 20_000 })
  let stdout = ''
  let stderr = ''
  child.stderr.on('data', (data) => (stderr += data))
  child.stdout.on('data', (data) => {
    if (stdout === '') act(child)
    stdout += data
  })
  return new Promise((resolve) => child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr })))
}

const released = 'release cbx_0123456789ab\nwait\n'

test('the end of the process releases what was not kept', async () => {
  assert.equal((await run('await crabbox.acquire()')).stdout, released)
  assert.equal((await run('await crabbox.acquire(); process.exit(3)')).stdout, released)
  const thrown = await run("await crabbox.acquire(); throw new Error('x')")
  assert.deepEqual([thrown.stdout, thrown.code], [released, 1])
})

test('it leaves alone what is kept, told to stay, or released already', async () => {
  assert.equal((await run('await crabbox.acquire({ keep: true })')).stdout, '')
  assert.equal((await run('await crabbox.acquire({ releaseOnExit: false })')).stdout, '')
  assert.equal((await run('await (await crabbox.acquire()).release()')).stdout, 'release cbx_0123456789ab\n')
})

test('it leaves alone what was there before', async () => {
  for (const name of ['open', 'start']) assert.equal((await run(`await crabbox.${name}('trainer')`)).stdout, '')
})

test('it undoes a run that is under way', async () => {
  const { stdout } = await run("crabbox.run({ command: ['wait'] }).catch(() => {}); setTimeout(() => process.exit(), 20)")
  assert.equal(stdout, 'wait\n')
})

test('it undoes an acquire that is under way', async () => {
  const { stdout } = await run("crabbox.acquire({ slug: 'never' }).catch(() => {}); setTimeout(() => process.exit(), 20)")
  assert.equal(stdout, 'wait\n')
})

const idle = "console.log('up'); setInterval(() => {}, 1000)"

test('without the handlers a signal ends the process as ever', async () => {
  const { signal, stdout } = await run(`await crabbox.acquire(); ${idle}`, (child) => child.kill('SIGTERM'))
  assert.deepEqual([signal, stdout], ['SIGTERM', 'up\n'])
})

test('with the handlers it releases first and then ends by the same signal', async () => {
  const script = `crabbox.installSignalHandlers(); await crabbox.acquire(); ${idle}`
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    const { signal, stdout, stderr } = await run(script, (child) => child.kill(name))
    assert.deepEqual([signal, stdout, stderr], [name, 'up\nrelease cbx_0123456789ab\n', ''])
  }
})

test('the handlers can be taken away', async () => {
  const script = `crabbox.installSignalHandlers()(); await crabbox.acquire(); ${idle}`
  const { signal, stdout } = await run(script, (child) => child.kill('SIGTERM'))
  assert.deepEqual([signal, stdout], ['SIGTERM', 'up\n'])
})

test('what could not be released is named', async () => {
  const fail = "require(process.env.NAPI_RS_NATIVE_LIBRARY_PATH).failRelease = 9;"
  const script = `${fail} crabbox.installSignalHandlers(); await crabbox.acquire(); ${idle}`
  const { signal, stderr } = await run(script, (child) => child.kill('SIGINT'))
  assert.equal(signal, 'SIGINT')
  assert.match(stderr, /lease cbx_0123456789ab may still be running; remove it: crabbox-vast stop cbx_0123456789ab/)
})
