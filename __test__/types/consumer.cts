import crabbox = require('crabbox-vast')

async function use(signal: crabbox.AbortSignalLike): Promise<string> {
  const lease: crabbox.Lease = await crabbox.acquire({ signal, keep: true })
  await lease[Symbol.asyncDispose]()
  return JSON.stringify(lease)
}

const uninstall: () => void = crabbox.installSignalHandlers({ signals: ['SIGTERM'] })
void [use, uninstall, crabbox.binaryPath()]
