import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { Worker } from 'node:worker_threads'
import { crabbox, root, runScript, simulated } from './simulator.mjs'

simulated('a script that forgets its lease leaves nothing', async (sim) => {
  const { code, stdout, stderr } = await runScript('console.log((await crabbox.acquire()).id)', { env: sim.env })
  assert.deepEqual([code, stderr], [0, ''])
  assert.match(stdout, /^cbx_/)
  assert.equal((await sim.ledger()).destroyed, 1)
  await sim.nothingLeft()
})

simulated('a process that exits between the ready machine and its answer leaves nothing', async (sim) => {
  const script = "await crabbox.acquire({ onEvent: ({ type }) => type === 'provisioned' && process.exit(0) })"
  const { code, stderr } = await runScript(script, { env: sim.env })
  assert.deepEqual([code, stderr], [0, ''])
  await sim.nothingLeft()
})

simulated('with the handlers, SIGTERM releases first', async (sim) => {
  const script = `
    crabbox.installSignalHandlers()
    await crabbox.acquire()
    console.log('up')
    setInterval(() => {}, 1000)`
  const { signal, stderr } = await runScript(script, { env: sim.env, act: (child) => child.kill('SIGTERM') })
  assert.deepEqual([signal, stderr], ['SIGTERM', ''])
  await sim.nothingLeft()
})

simulated('an uncaught error still releases', async (sim) => {
  const { code, stderr } = await runScript("await crabbox.acquire(); throw new Error('from the script')", { env: sim.env })
  assert.equal(code, 1)
  assert.match(stderr, /from the script/)
  await sim.nothingLeft()
})

simulated('a worker thread leases like any other, and may be terminated', async (sim) => {
  const code = `
    const { parentPort, workerData } = require('node:worker_threads')
    const crabbox = require(workerData.root)
    ;(async () => {
      const lease = await crabbox.acquire(workerData.options)
      const { stdout } = await lease.exec(['echo', 'from the worker'])
      await lease.release()
      parentPort.postMessage(stdout)
      lease.status().catch(() => {})
      crabbox.list(workerData.options).catch(() => {})
    })().catch((error) => parentPort.postMessage(String(error)))`
  const worker = new Worker(code, { eval: true, workerData: { root, options: sim.options } })
  const message = await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
  assert.equal(message, 'from the worker\n')
  await worker.terminate()
  await sim.nothingLeft()
  assert.deepEqual(await crabbox.list(sim.options), [])
})

simulated('a second copy of the package works beside the first', async (sim) => {
  const require = createRequire(import.meta.url)
  const kept = new Map(Object.entries(require.cache).filter(([path]) => path.startsWith(root) && !path.endsWith('.node')))
  for (const path of kept.keys()) delete require.cache[path]
  const second = require('crabbox-vast')
  assert.notEqual(second.acquire, crabbox.acquire)
  assert.deepEqual(await second.list(sim.options), [])
  await assert.rejects(second.status('nothing', sim.options), (error) => error instanceof crabbox.VastLeaseError)
})
