import assert from 'node:assert/strict'
import { crabbox, runScript, simulated } from './simulator.mjs'

simulated('a lease is acquired, used and released, and nothing is left', async (sim) => {
  const events = []
  const lease = await crabbox.acquire({ ...sim.options, slug: 'first one', onEvent: (event) => events.push(event) })
  assert.match(lease.id, /^cbx_[0-9a-f]{12}$/)
  assert.equal(lease.slug, 'first-one')
  for (const id of [lease.instance, lease.offer]) assert.match(id, /^\d+$/)
  assert.ok(lease.price > 0 && lease.gpu && lease.endpoint.port && lease.expiresAt)
  assert.deepEqual([sim.claims().length, sim.keys().length, (await sim.open()).length], [1, 1, 1])

  const result = await lease.exec(['sh', '-c', 'echo out; echo err >&2; exit 7'])
  assert.deepEqual(result, { exitCode: 7, signal: null, stdout: 'out\n', stderr: 'err\n', truncated: false })
  const gpus = await lease.exec(['nvidia-smi', '-L'])
  assert.match(gpus.stdout, /^GPU 0: /)
  const env = await lease.exec({ shell: 'echo "$NAME|$CRABBOX_LEASE_ID" | tr a-z A-Z; pwd' }, { env: { NAME: 'two words' } })
  const folder = `${sim.workRoot}/${lease.id}/workspace`
  assert.equal(env.stdout, `TWO WORDS|${lease.id.toUpperCase()}\n${folder}\n`)

  const status = await lease.status()
  assert.deepEqual([status.ready, status.state, status.claimed, status.instance], [true, 'ready', true, lease.instance])
  const [listed] = await crabbox.list(sim.options)
  assert.deepEqual([listed.id, listed.slug, listed.claimed, listed.keep], [lease.id, 'first-one', true, false])
  const touched = await crabbox.touch('first-one', { ...sim.options, idleTimeout: '45m' })
  assert.equal(touched.id, lease.id)
  assert.equal((await crabbox.status('first-one', { ...sim.options, wait: true, waitTimeout: 5 })).idleTimeoutSeconds, 2700)
  assert.equal((await lease.touch()).lastTouchedAt >= touched.lastTouchedAt, true)
  assert.equal((await lease.status()).idleTimeoutSeconds, 2700)

  const released = await lease.release()
  assert.deepEqual(released, { id: lease.id, slug: 'first-one', instance: lease.instance, action: 'destroy', outcome: 'destroyed' })
  await sim.nothingLeft()

  const phases = events.filter(({ type }) => type === 'phase').map(({ phase }) => phase)
  assert.equal(phases[0], 'search')
  assert.ok(phases.includes('boot'), String(phases))
  const types = events.map(({ type }) => type)
  for (const type of ['provisioning', 'created', 'hostKey', 'provisioned']) assert.ok(types.includes(type), String(types))
  assert.equal(events.find(({ type }) => type === 'created').instance, lease.instance)
})

simulated('disposal releases; a kept lease stays until it is released by name', async (sim) => {
  const lease = await crabbox.acquire({ ...sim.options, keep: true, slug: 'kept' })
  await lease[Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')]()
  assert.equal((await sim.open()).length, 1)
  assert.equal((await crabbox.release('kept', sim.options)).outcome, 'destroyed')
  await sim.nothingLeft()
  const brief = await crabbox.acquire(sim.options)
  await brief[Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')]()
  await sim.nothingLeft()
})

const syntax = canParse('async () => { await using x = null }')
const awaitUsing = async (sim) => {
  const script = `
    {
      await using lease = await crabbox.acquire()
      const { exitCode, stdout, stderr } = await lease.exec(['sh', '-c', 'echo out; echo err >&2; exit 7'])
      console.log(JSON.stringify([exitCode, stdout, stderr]))
    }`
  const { stdout, stderr } = await runScript(script, { env: sim.env })
  assert.equal(stdout, '[7,"out\\n","err\\n"]\n', stderr)
  await sim.nothingLeft()
}
simulated('await using releases', awaitUsing, { skip: !syntax && 'this Node has no `await using`' })

simulated('an abort during the acquire leaves nothing, whenever it comes', async (sim) => {
  for (const when of ['search', 'created', 'boot']) {
    const controller = new AbortController()
    const reason = new Error(`gave up at ${when}`)
    const onEvent = ({ type, phase }) => (phase ?? type) === when && controller.abort(reason)
    await assert.rejects(crabbox.acquire({ ...sim.options, signal: controller.signal, onEvent }), reason)
    await sim.nothingLeft()
  }
  const { created } = await sim.ledger()
  await assert.rejects(crabbox.acquire({ ...sim.options, signal: AbortSignal.abort() }), { name: 'AbortError' })
  assert.equal((await sim.ledger()).created, created)
})

simulated('an abort once it is rented leaves nothing when the caller hears of it, kept or not', async (sim) => {
  for (const keep of [false, true]) {
    const controller = new AbortController()
    const reason = new Error('gave up at the end')
    const onEvent = ({ type }) => type === 'provisioned' && controller.abort(reason)
    const acquired = crabbox.acquire({ ...sim.options, keep, signal: controller.signal, onEvent })
    // Either it was handed over before that, or it is gone by now.
    const lease = await acquired.catch((error) => assert.equal(error, reason))
    await lease?.release()
    await sim.nothingLeft()
  }
})

simulated('an abort of a repeated acquire leaves the lease that was there', async (sim) => {
  const options = { ...sim.options, keep: true, leaseId: 'cbx_0123456789ab' }
  const lease = await crabbox.acquire(options)
  for (const when of ['recover', 'connect']) {
    const controller = new AbortController()
    const onEvent = ({ phase }) => phase === when && controller.abort(new Error('no more'))
    const again = await crabbox.acquire({ ...options, signal: controller.signal, onEvent }).catch(() => undefined)
    await again?.close?.()
    assert.equal((await sim.ledger()).destroyed, 0)
  }
  await lease.release()
  await sim.nothingLeft()
})

function canParse(code) {
  try {
    return Boolean(new Function(code))
  } catch {
    return false
  }
}
