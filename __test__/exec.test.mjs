import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { after, before, test } from 'node:test'
import { called, crabbox } from './fake.mjs'

let lease
before(async () => (lease = await crabbox.acquire()))
after(() => lease.release())

test('awaited, it gives both streams and how it ended', async () => {
  const result = await lease.exec(['fail', 'out\n', 'err\n', 'more\n'])
  assert.deepEqual(result, { exitCode: 7, signal: null, stdout: 'out\nmore\n', stderr: 'err\n', truncated: false })
  assert.deepEqual(await lease.exec(['killed']), { exitCode: null, signal: 'KILL', stdout: '', stderr: '', truncated: false })
})

test('iterated, it gives pieces as they come and holds the command back', async () => {
  const command = lease.exec(['printf', 'a', 'b', 'c'])
  const seen = []
  for await (const { stream, data } of command) {
    seen.push([stream, data])
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
  assert.deepEqual(seen, [['stdout', 'a'], ['stderr', 'b'], ['stdout', 'c']]) // prettier-ignore
  assert.equal((await command).stdout, 'ac')
})

test('leaving the iteration leaves the command running', async () => {
  const command = lease.exec(['printf', 'a', 'b', 'c'])
  for await (const _ of command) break
  assert.equal((await command).stdout, 'ac')
})

test('a late iteration is refused instead of losing output', async () => {
  const command = lease.exec(['printf', 'a'])
  await command
  assert.throws(() => command[Symbol.asyncIterator](), { code: 'invalid_state' })
})

test('a lost connection rejects the promise and the iteration, once', async () => {
  await assert.rejects(lease.exec(['lost', 'x']), { code: 'ssh_lost', retryable: true })
  const seen = []
  await assert.rejects(async () => {
    for await (const { data } of lease.exec(['lost', 'x'])) seen.push(data)
  }, { code: 'ssh_lost' }) // prettier-ignore
  assert.deepEqual(seen, ['x'])
})

test('a signal ends it with the caller’s reason', async () => {
  const reason = new Error('enough')
  await assert.rejects(lease.exec(['wait'], { signal: AbortSignal.abort(reason) }), reason)
  const controller = new AbortController()
  setTimeout(() => controller.abort(reason), 5)
  await assert.rejects(lease.exec(['wait'], { signal: controller.signal }), reason)
})

test('a character that is cut between two pieces stays whole; bytes stay bytes', async () => {
  const [first, second] = ['\xc3', '\xa9']
  const seen = []
  const result = await lease.exec(['printf', first, '', second], { onStdout: (data) => seen.push(data) })
  assert.equal(result.stdout, 'é')
  assert.deepEqual(seen, ['é'])
  const bytes = await lease.exec(['printf', first, '', second], { encoding: 'buffer' })
  assert.deepEqual([...bytes.stdout], [0xc3, 0xa9])
})

test('the limit cuts the result, not what is streamed', async () => {
  let streamed = ''
  const options = { maxBuffer: 3, onStdout: (data) => (streamed += data) }
  const result = await lease.exec(['printf', 'ab', '', 'cdef'], options)
  assert.deepEqual([result.stdout, result.truncated, streamed], ['abc', true, 'abcdef'])
  assert.equal((await lease.exec(['printf', 'é'.repeat(1)], { maxBuffer: 0 })).stdout, '')
})

test('standard input may be text, bytes, an iterable or a stream', async () => {
  const late = (async function* () {
    yield 'one '
    await new Promise((resolve) => setTimeout(resolve, 2))
    yield Buffer.from('two')
  })()
  for (const stdin of ['one two', Buffer.from('one two'), late, Readable.from(['one ', 'two'])]) {
    assert.equal((await lease.exec(['cat'], { stdin })).stdout, 'one two')
  }
  assert.equal(called('exec').request.stdin, true)
})

test('a source that breaks stops the command and is the cause', async () => {
  const broken = (async function* () {
    yield 'x'
    throw new Error('disk on fire')
  })()
  await assert.rejects(lease.exec(['cat'], { stdin: broken }), (error) => error.cause.message === 'disk on fire')
  await assert.rejects(lease.exec(['cat'], { stdin: [1] }), (error) => error.cause instanceof TypeError)
})

test('a source that never ends is left when the command ends', async () => {
  let left = false
  const endless = { [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}), return: async () => ((left = true), {}) }) }
  await lease.exec(['printf', 'x'], { stdin: endless })
  assert.equal(left, true)
})

test('commands and options are checked', async () => {
  const refused = (command, options) => assert.rejects(lease.exec(command, options), { code: 'invalid_argument' })
  for (const command of ['ls', [], [1], ['a\0b'], {}, { shell: ' ' }, { shel: 'ls' }, undefined]) await refused(command)
  await assert.rejects(lease.exec(['ls'], { stdIn: 'x' }), /did you mean `stdin`/)
  for (const options of [{ maxBuffer: -1 }, { encoding: 'utf9' }, { stdin: 7 }, { env: { A: 1 } }, { cwd: 1 }, { signal: 1 }]) {
    await refused(['ls'], options)
  }
  await lease.exec({ shell: 'ls | wc' }, { env: { A: '1', B: undefined }, cwd: '/work' })
  assert.deepEqual(called('exec').request, { shell: 'ls | wc', env: { A: '1' }, cwd: '/work', stdin: false })
})
