import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
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

simulated('the example for CI brings the tree over and gives the machine back', async (sim) => {
  writeFileSync(join(sim.home, 'data.txt'), 'from here\n')
  const cwd = sim.home
  for (const words of [['init', '-q'], ['add', 'data.txt']]) execFileSync('git', words, { cwd, env: sim.env })
  const path = join(root, 'examples', 'test-on-gpu.mjs')
  const options = { cwd, env: { ...sim.env, CI: 'yes' }, encoding: 'utf8', timeout: 60_000 }
  const { status, stdout, stderr } = spawnSync(process.execPath, [path, 'sh', '-c', 'cat data.txt; echo $CI; exit 4'], options)
  assert.deepEqual([status, stdout], [4, 'from here\nyes\n'], stderr)
  assert.match(stderr, /exit code 4, at most \$\d/)
  await sim.nothingLeft()
})
