import assert from 'node:assert/strict'
import { resolve } from 'node:path'
import { test } from 'node:test'
import { called, crabbox } from './fake.mjs'

const refused = (options, pattern) =>
  assert.rejects(crabbox.acquire(options), (error) => {
    assert.equal(error.code, 'invalid_argument')
    assert.match(error.message, pattern)
    assert.doesNotMatch(error.message, /secret-key/)
    return true
  })

test('an unknown option names the nearest known one', async () => {
  await refused({ gpuname: 'RTX 4090' }, /no option `gpuname`; did you mean `gpuName`\?/)
  await refused({ maxDph: 1 }, /`maxDph`/)
  await refused({ diskGb: 20 }, /did you mean `diskGB`\?/)
  await refused({ somethingElseEntirely: 1 }, /no option `somethingElseEntirely`$/)
  await refused({ all: true }, /acquire has no option `all`/)
})

test('numbers that would wrap or be cut are refused', async () => {
  for (const gpuCount of [-1, 1.5, Number.NaN, Infinity, 2 ** 53, '1', null]) await refused({ gpuCount }, /`gpuCount` must be a whole number/)
  for (const maxDphTotal of [-0.1, Number.NaN, Infinity, '0.5']) await refused({ maxDphTotal }, /`maxDphTotal` must be a number/)
  for (const minReliability of [-0.1, 1.1, Number.NaN]) await refused({ minReliability }, /from 0 to 1/)
  for (const ttl of [-1, 0.5, Number.NaN, {}]) await refused({ ttl }, /whole number of seconds or a duration/)
})

test('other values of the wrong kind are refused, and no key is repeated', async () => {
  await refused({ apiKey: { value: 'secret-key' } }, /`apiKey` must be a non-empty string/)
  await refused({ apiKey: ['secret-key'] }, /`apiKey`/)
  await refused({ releaseAction: 'burn' }, /one of "destroy", "stop", "keep"/)
  await refused({ image: null }, /`image` must be a string, not null/)
  await refused({ keep: 'yes' }, /`keep` must be true or false/)
  await refused({ signal: {} }, /`signal` must be an AbortSignal/)
  await refused({ onEvent: 'print' }, /`onEvent` must be a function/)
  await refused({ env: { A: 1 } }, /`env.A` must be a string/)
  await refused([], /options must be an object/)
  await assert.rejects(crabbox.release(1234), { code: 'invalid_argument' })
  await assert.rejects(crabbox.status(' '), { code: 'invalid_argument' })
})

test('settings travel as text, with a copy of the environment and an absolute folder', async () => {
  const env = { A: '1', B: undefined }
  const running = crabbox.list({ gpuName: 'RTX_4090', gpuCount: 2, maxDphTotal: 0.6, ttl: 5400, idleTimeout: '30m', apiKey: 'secret-key', env, cwd: 'here', image: undefined, all: true }) // prettier-ignore
  env.A = 'changed'
  await running
  assert.deepEqual(called('list').request, {
    context: {
      env: { A: '1' },
      cwd: resolve('here'),
      settings: { gpuName: 'RTX_4090', gpuCount: '2', maxDphTotal: '0.6', ttl: '5400s', idleTimeout: '30m' },
      apiKey: 'secret-key',
    },
    all: true,
  })
})

test('without options the process gives environment and folder', async () => {
  await crabbox.doctor()
  const { context } = called('doctor').request
  assert.equal(context.cwd, process.cwd())
  assert.equal(context.env.PATH, process.env.PATH)
  assert.deepEqual(context.settings, {})
})

test('each call sends what is its own', async () => {
  await crabbox.release('tidal-barnacle', { action: 'stop' })
  assert.deepEqual([called('release').request.id, called('release').request.action], ['tidal-barnacle', 'stop'])
  await crabbox.status('cbx_0123456789ab', { wait: true, waitTimeout: 60 })
  assert.deepEqual([called('status').request.wait, called('status').request.waitTimeoutSeconds], [true, 60])
  await crabbox.touch('27491836')
  assert.equal(called('touch').request.id, '27491836')
  await crabbox.searchOffers({ limit: 3 })
  assert.equal(called('searchOffers').request.limit, 3)
})
