// What the addon offers today must fit what lib/ expects of it.
import binding = require('../../binding.js')
import type { Native } from '../../lib/native.js'

declare const cancel: binding.Cancel
const expected: InstanceType<Native['Cancel']> = cancel
const codes: ReturnType<Native['errorCodes']> = binding.errorCodes()
const version: Native['version'] = binding.version
void [expected, codes, version]
