import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { root, simulated } from './simulator.mjs'

simulated('the example of the README works as it stands', async (sim) => {
  const words = ['sh', '-c', 'nvidia-smi -L; echo err >&2; exit 7']
  const options = { cwd: sim.home, env: sim.env, encoding: 'utf8', timeout: 60_000 }
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(root, 'examples', 'train.mjs'), ...words], options)
  assert.equal(status, 7, stderr)
  assert.match(stdout, /^GPU 0: /)
  assert.match(stderr, /^search: [^]*\nerr\n$/)
  await sim.nothingLeft()
})
