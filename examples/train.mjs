// Rents a GPU, runs a command on it with its output as it comes, and gives the machine back.
//
//   node examples/train.mjs python3 -c 'print("training")'
//
// The key comes from CRABBOX_VAST_API_KEY or VAST_API_KEY; nothing costs more than the cap below.
import { acquire, installSignalHandlers } from 'crabbox-vast'

installSignalHandlers() // Ctrl-C gives the machine back, too

const lease = await acquire({
  maxDphTotal: 0.6,
  ttl: '1h',
  onEvent: (event) => event.type === 'phase' && console.error(`${event.phase}: ${event.message}`),
})
try {
  console.error(`${lease.gpu} for $${lease.price.toFixed(2)} an hour`)
  const words = process.argv.slice(2)
  const command = lease.exec(words.length > 0 ? words : ['nvidia-smi', '-L'])
  for await (const { stream, data } of command) process[stream].write(data)
  process.exitCode = (await command).exitCode ?? 1
} finally {
  await lease.release()
}
