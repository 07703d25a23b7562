import assert from 'node:assert/strict'
import { inspect } from 'node:util'
import { test } from 'node:test'
import { called, crabbox, fake } from './fake.mjs'

test('a lease shows its facts and cannot be made by hand', async () => {
  const lease = await crabbox.acquire({ slug: 'tidal-barnacle' })
  assert.equal(lease.id, 'cbx_0123456789ab')
  assert.equal(lease.instance, '27491836')
  assert.equal(lease.endpoint.kind, 'direct')
  assert.deepEqual(JSON.parse(JSON.stringify(lease)), { ...lease.toJSON() })
  assert.match(inspect(lease), /Lease .*tidal-barnacle/s)
  assert.throws(() => new crabbox.Lease(), TypeError)
  await lease.release()
})

test('an early abort asks for nothing; a late one rejects with the caller’s reason', async () => {
  const before = fake.calls.length
  const reason = new Error('changed my mind')
  await assert.rejects(crabbox.acquire({ signal: AbortSignal.abort(reason) }), reason)
  assert.equal(fake.calls.length, before)

  const controller = new AbortController()
  let heard = 0
  controller.signal.onabort = () => (heard += 1)
  const acquiring = crabbox.acquire({ slug: 'never', signal: controller.signal })
  setTimeout(() => controller.abort(reason), 5)
  await assert.rejects(acquiring, reason)
  assert.equal(heard, 1)
})

test('events arrive, and a callback that throws is a warning', async () => {
  const events = []
  const warned = new Promise((resolve) => process.once('warning', resolve))
  const onEvent = (event) => {
    events.push(event.phase)
    throw new Error('from the callback')
  }
  const lease = await crabbox.acquire({ onEvent })
  assert.deepEqual(events, ['search'])
  assert.equal((await warned).message, 'from the callback')
  await lease.release()
})

test('the engine’s error becomes one with code, hint, causes and the caller’s stack', async () => {
  async function theCaller() {
    await crabbox.acquire({ slug: 'no-offers' })
  }
  await assert.rejects(theCaller(), (error) => {
    assert.ok(error instanceof crabbox.VastLeaseError)
    assert.deepEqual([error.code, error.hint, error.retryable, error.details], ['no_offers', 'raise `maxDphTotal`', true, { cap: 0.1 }])
    assert.equal(error.cause.message, 'outer')
    assert.equal(error.cause.cause.message, 'inner')
    assert.match(error.stack, /theCaller/)
    return true
  })
  await assert.rejects(crabbox.acquire({ slug: 'panic' }), (error) => error.code === 'internal' && error.cause instanceof Error)
})

test('release asks once, and again after a failure', async () => {
  const lease = await crabbox.acquire()
  fake.failRelease = 1
  await assert.rejects(lease.release(), { code: 'release_unproved' })
  const before = fake.calls.filter(({ name }) => name === 'lease.release').length
  const [first, second] = await Promise.all([lease.release({ action: 'stop' }), lease.release()])
  assert.equal(first, second)
  assert.equal(first.action, 'stop')
  assert.equal(fake.calls.filter(({ name }) => name === 'lease.release').length, before + 1)
  await assert.rejects(async () => lease.exec(['true']), { code: 'invalid_state' })
  await assert.rejects(lease.touch(), { code: 'invalid_state' })
})

test('disposal releases, and leaves a kept lease alone', async () => {
  const count = () => fake.calls.filter(({ name }) => name === 'lease.release').length
  const before = count()
  const lease = await crabbox.acquire()
  await lease[Symbol.asyncDispose]()
  assert.equal(count(), before + 1)
  const kept = await crabbox.acquire({ keep: true })
  await kept[Symbol.asyncDispose]()
  assert.equal(count(), before + 1)
  assert.equal(called('acquire').request.keep, true)
})

test('touch moves the end that the lease shows', async () => {
  const lease = await crabbox.acquire()
  assert.equal(lease.expiresAt, null)
  await lease.touch()
  assert.equal(lease.expiresAt, '2026-01-01T01:00:00Z')
  assert.equal(lease.deadman.armed, true)
  assert.deepEqual([called('lease.touch').request, lease.idleTimeoutSeconds], [{}, 600])
  await lease.touch({ idleTimeout: 600 })
  assert.deepEqual(called('lease.touch').request, { idleTimeout: '600s' })
  await assert.rejects(lease.touch({ idleTimeout: -1 }), { code: 'invalid_argument' })
  await assert.rejects(lease.touch({ ttl: '1h' }), { code: 'invalid_argument' })
  await lease.release()
})
