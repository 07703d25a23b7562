// Runs the tests of this repository on a rented GPU, as a CI step does: the working tree goes over, the exit code and
// the report come back, and the machine is given back whatever happens.
//
//   node examples/test-on-gpu.mjs make test
import { cleanup, installSignalHandlers, run } from 'crabbox-vast'

installSignalHandlers() // a cancelled job gives the machine back, too
await cleanup() // and so does the next job for one that was killed

const words = process.argv.slice(2)
const { exitCode, costDollars, lease } = await run({
  command: words.length > 0 ? words : ['make', 'test'],
  maxDphTotal: 0.6,
  ttl: '1h',
  allowEnv: ['CI'],
  onStdout: (text) => process.stdout.write(text),
  onStderr: (text) => process.stderr.write(text),
})
console.error(`${lease.gpu}: exit code ${exitCode}, at most $${costDollars?.toFixed(4)}`)
process.exitCode = exitCode
