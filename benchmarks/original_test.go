// What beside_go.py runs of the Go original: the loops of bench_opqueue.py and bench_callgroup.py, as far as it has them.
// A round is 10,000 operations. There are no bulk calls: a batch is gone through one by one.

package inflight

import "testing"

const operations = 10000

func reduce(map[ID]*Response) {}

func BenchmarkInTurn(b *testing.B) {
	queue := NewOpQueue(1<<30, 1<<30)
	op := NewCallGroup(reduce).Add(0, nil)
	b.ResetTimer()
	for round := 0; round < b.N; round++ {
		for key := 1000; key < 1000+operations; key++ {
			queue.Enqueue(ID(key), op)
			queue.Dequeue()
		}
	}
}

func BenchmarkWholeWay(b *testing.B) {
	queue := NewOpQueue(1<<30, 1<<30)
	for round := 0; round < b.N; round++ {
		group := NewCallGroup(reduce)
		for key := 1000; key < 1000+operations; key++ {
			queue.Enqueue(ID(key), group.Add(uint64(key), nil))
			row, _ := queue.Dequeue()
			row.FinishAll(nil, nil)
		}
	}
}

func BenchmarkSharedKeys(b *testing.B) {
	queue := NewOpQueue(1<<30, 1<<30)
	for round := 0; round < b.N; round++ {
		groups := make([]*CallGroup, 10)
		for i := range groups {
			groups[i] = NewCallGroup(reduce)
		}
		for key := 1000; key < 1000+operations/10; key++ {
			for _, group := range groups {
				queue.Enqueue(ID(key), group.Add(uint64(key), nil))
			}
			row, _ := queue.Dequeue()
			row.FinishAll(nil, nil)
		}
	}
}

func BenchmarkBatches(b *testing.B) {
	queue := NewOpQueue(1<<30, 1<<30)
	for round := 0; round < b.N; round++ {
		group := NewCallGroup(reduce)
		for start := 1000; start < 1000+operations; start += 1000 {
			for key := start; key < start+1000; key++ {
				queue.Enqueue(ID(key), group.Add(uint64(key), nil))
			}
			for key := start; key < start+1000; key++ {
				row, _ := queue.Dequeue()
				row.FinishAll(nil, nil)
			}
		}
	}
}

func BenchmarkAddFinish(b *testing.B) {
	for round := 0; round < b.N; round++ {
		group := NewCallGroup(reduce)
		ops := make([]*Op, 0, operations)
		for key := 1000; key < 1000+operations; key++ {
			ops = append(ops, group.Add(uint64(key), nil))
		}
		for _, op := range ops {
			op.Finish(nil, nil)
		}
	}
}

func BenchmarkDuplicates(b *testing.B) {
	op := NewCallGroup(reduce).Add(0, nil)
	for round := 0; round < b.N; round++ {
		queue := NewOpQueue(1<<30, 1<<30)
		for key := 0; key < operations; key++ {
			queue.Enqueue(ID(7), op)
		}
	}
}
