import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const shim = fileURLToPath(new URL('../bin/crabbox-vast.js', import.meta.url))
const binary = fileURLToPath(new URL('./fixtures/binary.sh', import.meta.url))
const env = { ...process.env, CRABBOX_VAST_BINARY: binary }

const run = (args, options = {}) => spawnSync(process.execPath, [shim, ...args], { env, encoding: 'utf8', ...options })

test('arguments arrive as they are', () => {
  const words = ['two words', '$HOME', '--', '-x', '', '"quoted"']
  assert.equal(run(['args', ...words]).stdout, `${words.join('\n')}\n`)
})

test('streams and exit code pass through', () => {
  const { status, stdout, stderr } = run(['streams'], { input: 'in' })
  assert.deepEqual([status, stdout, stderr], [7, 'in', 'err\n'])
})

test('a signal that ends the binary ends the shim the same way', () => {
  for (const name of ['TERM', 'KILL', 'INT', 'HUP']) assert.equal(run(['kill', name]).signal, `SIG${name}`)
  assert.equal(run(['kill', 'PIPE']).status, 141)
})

/** Starts the waiting binary, and signals the shim once it is up. */
function signalled(name) {
  const child = spawn(process.execPath, [shim, 'wait'], { env, stdio: ['ignore', 'pipe', 'inherit'], timeout: 20_000 })
  let stdout = ''
  child.stdout.on('data', (data) => {
    if (stdout === '') child.kill(name)
    stdout += data
  })
  return new Promise((resolve) => child.on('close', (status) => resolve({ status, stdout })))
}

test('signals to the shim reach the binary, whose answer counts', async () => {
  for (const [name, word, code] of [['SIGINT', 'interrupted', 40], ['SIGTERM', 'terminated', 41], ['SIGHUP', 'hung', 42], ['SIGQUIT', 'quit', 43]]) { // prettier-ignore
    const { status, stdout } = await signalled(name)
    assert.equal(status, code)
    assert.match(stdout, new RegExp(`^up \\d+\n${word}\n$`))
  }
})

test('an interrupt of the whole group, as from a terminal, ends both with the answer of the binary', async () => {
  const child = spawn(process.execPath, [shim, 'wait'], { env, stdio: ['ignore', 'pipe', 'inherit'], detached: true, timeout: 20_000 }) // prettier-ignore
  await new Promise((resolve) => child.stdout.once('data', resolve))
  process.kill(-child.pid, 'SIGINT')
  assert.equal(await new Promise((resolve) => child.on('close', resolve)), 40)
})

test('a binary that cannot be started is one line', () => {
  const missing = run([], { env: { ...env, CRABBOX_VAST_BINARY: '/nowhere/crabbox-vast' } })
  assert.equal(missing.status, 127)
  assert.match(missing.stderr, /^crabbox-vast: cannot start .*\n$/)
})
