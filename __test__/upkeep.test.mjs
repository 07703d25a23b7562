import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { crabbox, runScript, simulated, startSimulator } from './simulator.mjs'

let sim, lease
before(async () => {
  sim = await startSimulator()
  lease = await crabbox.acquire({ ...sim.options, slug: 'trainer', keep: true })
})
after(() => sim.close())

const dispose = Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')

test('an opened lease works, and neither disposal nor the end of the process ends it', async () => {
  const opened = await crabbox.open('trainer', sim.options)
  assert.deepEqual([opened.id, opened.instance, opened.keep], [lease.id, lease.instance, true])
  assert.equal((await opened.exec(['echo', 'there'])).stdout, 'there\n')
  opened.close()
  assert.equal((await opened.exec(['echo', 'again'])).stdout, 'again\n')
  await opened[dispose]()
  const { code, stderr } = await runScript("await crabbox.open('trainer')", { env: sim.env })
  assert.deepEqual([code, stderr, (await sim.open()).length], [0, '', 1])
  await assert.rejects(crabbox.open('no-such-lease', sim.options), { code: 'lease_not_found' })
  await assert.rejects(crabbox.open('trainer', { ...sim.options, signal: AbortSignal.abort() }), { name: 'AbortError' })
})

test('files go there and back', async () => {
  mkdirSync(join(sim.home, 'data'))
  writeFileSync(join(sim.home, 'data', 'a.txt'), 'a')
  const up = await lease.copyTo('data', 'in/')
  assert.deepEqual([up.files, up.bytes], [1, 1])
  assert.equal((await lease.exec(['cat', 'in/data/a.txt'])).stdout, 'a')
  const down = await lease.copyFrom('in/data/a.txt', 'b.txt')
  assert.equal(down.files, 1)
  assert.equal(readFileSync(join(sim.home, 'b.txt'), 'utf8'), 'a')
  await crabbox.copy('b.txt', 'trainer:c.txt', sim.options)
  assert.equal((await crabbox.copy('trainer:c.txt', './d.txt', sim.options)).bytes, 1)
  assert.ok(existsSync(join(sim.home, 'd.txt')))
  await assert.rejects(lease.copyTo('nothing', 'x'), { code: 'invalid_argument' })
  await assert.rejects(lease.copyFrom('nothing', 'x'), { code: 'copy_failed' })
  await assert.rejects(crabbox.copy('a', 'b', sim.options), { code: 'invalid_argument' })
  await assert.rejects(lease.copyTo('', 'x'), { code: 'invalid_argument' })
  await assert.rejects(lease.copyTo('data', 'x', { signal: AbortSignal.abort() }), { name: 'AbortError' })
})

test('the ssh command names the lease’s own key', async () => {
  const { argv, line, user, port, key, knownHosts } = await crabbox.sshCommand('trainer', sim.options)
  assert.deepEqual([argv[0], user], ['ssh', lease.endpoint.user])
  // whichever of direct and relay answers first just now
  assert.equal(argv[argv.indexOf('-p') + 1], String(port))
  assert.ok(existsSync(key) && existsSync(knownHosts) && line.startsWith("'ssh' '-i' "))
})

test('claims are listed without a key; settings are shown without one', async () => {
  const env = { ...sim.env, CRABBOX_VAST_API_KEY: undefined }
  const { claims, problems, source } = await crabbox.listClaims({ cwd: sim.home, env })
  assert.deepEqual([claims.length, claims[0].leaseId, claims[0].slug, problems, source], [1, lease.id, 'trainer', [], 'local-claims'])
  const shown = await crabbox.showConfig({ ...sim.options, gpuCount: 2 })
  assert.equal(shown.provider, 'vast')
  assert.deepEqual((await crabbox.showConfig({ ...sim.options, gpuCount: 2, origin: true })).gpuCount.value, 2)
  assert.doesNotMatch(JSON.stringify(shown), new RegExp(sim.apiKey))
  const [provider, ...others] = await crabbox.providers()
  assert.deepEqual([provider.provider, others], ['vast', []])
})

test('a smoke that nobody asked for rents nothing and says so', async () => {
  const { created } = await sim.ledger()
  const smoked = await crabbox.liveSmoke(sim.options)
  assert.deepEqual([smoked.classification, smoked.exitCode, smoked.lease], ['environment_blocked', 0, null])
  assert.equal((await sim.ledger()).created, created)
})

test('an unsafe smoke with a key is a failure of its settings', async () => {
  const env = { ...sim.env, CRABBOX_VAST_API_KEY: undefined, CRABBOX_LIVE: '1', CRABBOX_LIVE_PROVIDERS: 'vast' }
  const unsafe = { cwd: sim.home, env, maxDphTotal: 0.5, gpuCount: 1, ttl: 'soon' }
  const keyless = await crabbox.liveSmoke(unsafe)
  assert.deepEqual([keyless.classification, keyless.exitCode], ['environment_blocked', 0])
  const smoked = await crabbox.liveSmoke({ ...unsafe, apiKey: sim.apiKey })
  assert.deepEqual([smoked.classification, smoked.exitCode, smoked.error?.code], ['validation_failed', 2, 'invalid_config'])
})

test('doctor checks a lease by its name', async () => {
  const { checks } = await crabbox.doctor({ ...sim.options, id: 'trainer' })
  assert.ok(checks.some(({ check, message }) => check === 'lease' && message.includes(lease.id)), JSON.stringify(checks))
})

test('a touch may set another idle timeout', async () => {
  const touched = await lease.touch({ idleTimeout: '45m' })
  assert.deepEqual([touched.idleTimeout, touched.idleTimeoutSeconds, lease.idleTimeoutSeconds], ['45m0s', 2700, 2700])
  const again = await crabbox.touch('trainer', { ...sim.options, idleTimeout: 1800 })
  assert.deepEqual([again.idleTimeout, again.idleTimeoutSeconds], ['30m0s', 1800])
  await assert.rejects(lease.touch({ idleTimeout: 'soon' }), { code: 'invalid_config' })
})

test('a list says whose an instance is, and a cleanup what kept it from being complete', async () => {
  const [{ id, ownership, claimed }] = await crabbox.list(sim.options)
  assert.deepEqual([id, ownership, claimed], [lease.id, 'claimed', true])
  const [path] = sim.claims()
  const claim = readFileSync(path, 'utf8')
  rmSync(path)
  try {
    assert.equal((await crabbox.list(sim.options))[0].ownership, 'unclaimed')
    const dry = await crabbox.cleanup({ ...sim.options, dryRun: true })
    assert.deepEqual([dry.items[0].outcome, dry.items[0].error.code, dry.error], ['refused', 'claim_missing', undefined])
    const { error, summary } = await crabbox.cleanup(sim.options)
    assert.deepEqual([error.code, summary.refused], ['claim_missing', 1])
  } finally {
    writeFileSync(path, claim, { mode: 0o600 })
  }
})

test('a stopped lease starts again; a started one stays when the process ends', async () => {
  assert.equal((await lease.release({ action: 'stop' })).outcome, 'stopped')
  const started = await crabbox.start('trainer', sim.options)
  assert.equal((await started.exec(['echo', 'up'])).stdout, 'up\n')
  await started[dispose]()
  assert.equal((await crabbox.status('trainer', sim.options)).ready, true)
  await assert.rejects(crabbox.start('trainer', { ...sim.options, signal: AbortSignal.abort() }), { name: 'AbortError' })
})

test('a claim that is lost is adopted again, and forgotten only on request', async () => {
  const planned = await crabbox.cleanup({ ...sim.options, dryRun: true })
  assert.deepEqual([planned.dryRun, planned.summary.destroyed, planned.summary.failed], [true, 0, 0])
  await assert.rejects(crabbox.forget('trainer', sim.options), { code: 'confirmation_needed' })
  const forgotten = await crabbox.forget('trainer', { ...sim.options, yes: true })
  assert.deepEqual([forgotten.id, forgotten.instance, forgotten.provedGone], [lease.id, lease.instance, false])
  assert.deepEqual(sim.claims(), [])
  const adopted = await crabbox.adopt(lease.instance, sim.options)
  assert.deepEqual([adopted.id, adopted.instance, adopted.claimed], [lease.id, lease.instance, true])
  assert.deepEqual([adopted.deadman.armed, adopted.deadman.confirmed], [true, true])
  assert.equal((await crabbox.release(lease.id, sim.options)).outcome, 'destroyed')
  await sim.nothingLeft()
})

test('cleanup finds nothing to do where nothing is left', async () => {
  const { dryRun, items, summary } = await crabbox.cleanup(sim.options)
  assert.deepEqual([dryRun, items, summary.destroyed, summary.failed], [false, [], 0, 0])
})

simulated('cleanup destroys an expired lease and forgets it; one that is kept stays', async (sim) => {
  const expired = await crabbox.acquire({ ...sim.options, slug: 'short', idleTimeout: '60s', releaseOnExit: false })
  expired.close()
  const [path] = sim.claims()
  const claim = JSON.parse(readFileSync(path, 'utf8'))
  // an hour later, as the record has it
  for (const name of ['created_at', 'last_touched_at', 'expires_at']) claim.labels[name] = String(Number(claim.labels[name]) - 90_000)
  writeFileSync(path, JSON.stringify(claim))
  const planned = await crabbox.cleanup({ ...sim.options, dryRun: true })
  assert.deepEqual([planned.summary.planned, (await sim.open()).length, sim.claims().length], [1, 1, 1])
  const { items, summary } = await crabbox.cleanup(sim.options)
  assert.deepEqual([summary.destroyed, summary.failed, summary.refused], [1, 0, 0])
  assert.deepEqual([items[0].lease, items[0].outcome, items[0].instance], [expired.id, 'destroyed', expired.instance])
  await sim.nothingLeft()
  await assert.rejects(crabbox.status('short', sim.options), { code: 'lease_not_found' })
})
