import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { crabbox, startSimulator } from './simulator.mjs'

let sim
before(async () => (sim = await startSimulator()))
after(() => sim.close())

/** The call fails with this code, says in one line what to do, and rents nothing. */
async function refused(code, calling) {
  let failure
  await assert.rejects(calling, (error) => Boolean((failure = error)))
  assert.ok(failure instanceof crabbox.VastLeaseError, String(failure))
  assert.equal(failure.code, code, failure.message)
  assert.doesNotMatch(failure.message, /\n/)
  assert.ok(failure.hint, `${code} has no hint`)
  assert.equal((await sim.ledger()).created, 0)
  assert.deepEqual([...sim.claims(), ...sim.keys()], [])
  return failure
}

const changed = (env) => ({ ...sim.options, env: { ...sim.env, ...env } })

test('a key that is refused', async () => {
  const error = await refused('auth_failed', crabbox.acquire(changed({ CRABBOX_VAST_API_KEY: 'f'.repeat(64) })))
  assert.match(error.hint, /CRABBOX_VAST_API_KEY/)
  assert.match(error.cause.message, /^HTTP 4\d\d auth_error/)
  assert.equal(error.retryable, false)
  await refused('auth_failed', crabbox.list({ ...sim.options, apiKey: 'f'.repeat(64) }))
  const report = await crabbox.doctor({ ...sim.options, apiKey: 'f'.repeat(64) })
  assert.deepEqual([report.ok, report.error.code], [false, 'auth_failed'])
})

test('no key', async () => {
  await refused('missing_api_key', crabbox.acquire(changed({ CRABBOX_VAST_API_KEY: undefined })))
  assert.equal((await crabbox.doctor(changed({ CRABBOX_VAST_API_KEY: undefined }))).ok, false)
})

test('a name that names nothing', async () => {
  for (const call of [crabbox.status, crabbox.release, crabbox.touch]) {
    await refused('lease_not_found', call('no-such-lease', sim.options))
  }
})

test('an API that is not there', async () => {
  const error = await refused('api_unreachable', crabbox.acquire({ ...sim.options, apiUrl: 'http://127.0.0.1:9/api/v0' }))
  assert.equal(error.retryable, true)
  assert.ok(error.cause.message)
})

test('no offer under the cap', async () => {
  await refused('no_offers', crabbox.acquire({ ...sim.options, maxDphTotal: 0.001 }))
  const none = await crabbox.searchOffers({ ...sim.options, maxDphTotal: 0.001 })
  assert.deepEqual(none.offers, [])
  const { refused: why } = await crabbox.searchOffers({ ...sim.options, maxCost: 0.01, ttl: '1h' })
  assert.ok(why['over what the lease may cost'] > 0, JSON.stringify(why))
  const { offers } = await crabbox.searchOffers({ ...sim.options, maxDphTotal: 0.6, limit: 2 })
  assert.equal(offers.length, 2)
  for (const { id, price } of offers) assert.ok(/^\d+$/.test(id) && price <= 0.6)
})

test('settings that do not fit name the option', async () => {
  const error = await assert.rejects(crabbox.list({ ...sim.options, ttl: 'soon' }), (failure) => {
    assert.deepEqual([failure.code, failure.details.origin], ['invalid_config', 'option'])
    assert.match(failure.message, /ttl/)
    return true
  })
  assert.equal(error, undefined)
  await refused('invalid_config', crabbox.acquire({ ...sim.options, releaseAction: 'burn' }))
  await refused('invalid_config', crabbox.acquire({ ...sim.options, instanceType: 'spot' }))
  await refused('invalid_argument', crabbox.release('x', { ...sim.options, action: 'burn' }))
  const shown = await crabbox.showConfig({ ...sim.options, instanceType: 'On-Demand', releaseAction: 'delete', expose: [9090, '80'] })
  assert.deepEqual([shown.vast.instanceType, shown.vast.releaseAction, shown.expose], ['ondemand', 'destroy', [80, 9090]])
  assert.equal((await crabbox.doctor({ ...sim.options, ttl: 'soon' })).error.code, 'invalid_config')
})

test('a repository cannot redirect the key', async () => {
  const cwd = join(sim.home, 'a repository')
  mkdirSync(join(cwd, '.git'), { recursive: true })
  writeFileSync(join(cwd, '.git', 'HEAD'), 'ref: refs/heads/main\n')
  writeFileSync(join(cwd, 'crabbox.yaml'), 'vast:\n  apiUrl: https://elsewhere.example/api/v0\n')
  await refused('credential_destination', crabbox.list({ ...changed({ CRABBOX_VAST_API_URL: undefined }), cwd }))
})

test('state that cannot be written', async () => {
  const file = join(sim.home, 'a file')
  writeFileSync(file, '')
  await refused('state_unavailable', crabbox.acquire(changed({ XDG_STATE_HOME: file })))
})

test('a run that contradicts itself', async () => {
  const command = ['true']
  const named = await refused('invalid_argument', crabbox.run({ ...sim.options, command, id: 'x', slug: 'y' }))
  assert.match(named.message, /a present one was named/)
  await refused('invalid_argument', crabbox.run({ ...sim.options, command, id: 'x', leaseId: 'cbx_0123456789ab' }))
  const script = join(sim.home, 'a.sh')
  writeFileSync(script, 'true')
  for (const [options, why] of [
    [{}, /there is no command/],
    [{ command: [] }, /there is no command/],
    [{ syncOnly: true, sync: false }, /and none as well/],
    [{ syncOnly: true, command }, /only a sync/],
    [{ syncOnly: true, script }, /only a sync/],
    [{ syncOnly: true, downloads: ['x'] }, /only a sync/],
    [{ syncOnly: true, artifacts: ['x'] }, /only a sync/],
    [{ syncOnly: true, requiredArtifacts: ['x'] }, /only a sync/],
    [{ script, command: { shell: 'x' } }, /takes words/],
    [{ command, downloads: ['a=x', 'b=./x'] }, /would be written twice/],
  ]) {
    const error = await refused('invalid_argument', crabbox.run({ ...sim.options, ...options }))
    assert.match(error.message, why)
  }
  // what says how a rented lease ends is no contradiction: it is not for this one
  await refused('lease_not_found', crabbox.run({ ...sim.options, command, id: 'x', keep: true, keepOnFailure: true, sync: false }))
})
