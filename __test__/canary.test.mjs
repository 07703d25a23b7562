// No secret in anything that comes out: results, events, errors with their stacks and causes, warnings, JSON.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { inspect } from 'node:util'
import { after, before, test } from 'node:test'
import { crabbox, startSimulator } from './simulator.mjs'

let sim
before(async () => (sim = await startSimulator()))
after(() => sim.close())

test('neither the API key nor a private key is in any output', async () => {
  const seen = []
  const show = (value) => {
    seen.push(inspect(value, { depth: null, showHidden: true, getters: true, maxStringLength: null }))
    seen.push(JSON.stringify(value) ?? '')
    for (let error = value; error instanceof Error; error = error.cause) seen.push(error.stack, String(error))
  }
  const onWarning = (warning) => show(warning)
  process.on('warning', onWarning)
  const options = { ...sim.options, onEvent: show }
  const failing = async (calling) => show(await assert.rejects(calling, (error) => (show(error), true)))

  const lease = await crabbox.acquire({ ...options, apiKey: sim.apiKey })
  show(lease)
  const secrets = [sim.apiKey, ...sim.keys().flatMap((path) => readFileSync(path, 'utf8').split('\n').filter((line) => line.length > 40))]
  assert.ok(secrets.length >= 3)
  show(await lease.exec(['env']))
  show(lease.exec(['true']))
  show(await lease.status({ onEvent: show }))
  show(await lease.touch())
  show(await crabbox.list({ ...options, all: true }))
  show(await crabbox.doctor(options))
  show(await crabbox.searchOffers(options))
  show(await crabbox.run({ ...options, id: lease.id, command: ['env'], sync: false }))
  show(await lease.copyFrom('/etc/hostname', 'hostname'))
  show(await crabbox.sshCommand(lease.id, options))
  const shell = await lease.shell({ command: ['env'], onEvent: show })
  for await (const data of shell) show(String(data))
  show(await shell.exit)
  show(shell)
  const tunnel = await lease.tunnel('0:80', { onEvent: show })
  show(tunnel)
  await tunnel.close()
  const opened = await crabbox.open(lease.id, options)
  show(opened)
  opened.close()
  show(await crabbox.listClaims(sim.options))
  show(await crabbox.cleanup({ ...options, dryRun: true }))
  show(await crabbox.showConfig({ ...options, apiKey: sim.apiKey }))
  show(await crabbox.showConfig({ ...options, apiKey: sim.apiKey, origin: true }))
  show(await crabbox.liveSmoke(options))
  await failing(crabbox.status('nothing', options))
  await failing(crabbox.forget(lease.id, options))
  await failing(crabbox.run({ ...options, id: 'nothing', command: ['true'], sync: false }))
  await failing(crabbox.list({ ...options, apiUrl: `http://127.0.0.1:9/${'x'.repeat(5)}` }))
  await failing(crabbox.list({ ...options, apiKey: [sim.apiKey] }))
  await failing(crabbox.list({ ...options, apiKey: `${sim.apiKey}\n` + sim.apiKey }))
  await failing(crabbox.list({ ...options, env: { ...sim.env, HOME: undefined, XDG_STATE_HOME: undefined, XDG_CONFIG_HOME: undefined } }))
  // a server that repeats what it was sent
  const bodies = [
    { error: 'x', msg: `you sent Bearer ${sim.apiKey}` },
    { error: 'x', msg: 'see the rest', api_key: sim.apiKey },
    { error: 'x', msg: `no such key: ${sim.apiKey}` },
  ]
  for (const body of bodies) {
    show(await sim.fault({ method: 'GET', path: '/api/v1/instances*', effect: { status: 400, body } }))
    await failing(crabbox.list(options))
  }
  show(await lease.release({ onEvent: show }))
  process.off('warning', onWarning)

  assert.ok(seen.length > 40)
  for (const secret of secrets) {
    for (const text of seen) assert.ok(!text.includes(secret), `a secret is in: ${text.replaceAll(secret, '<SECRET>').slice(0, 500)}`)
  }
})
