// franz-go: the three roles of ../README.md.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func produce(bootstrap, topic string, count int, codec string, idempotent bool, prefix string) {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	options := []kgo.Opt{
		kgo.SeedBrokers(bootstrap), kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(codecs[codec]),
		kgo.AllowAutoTopicCreation(), kgo.RecordDeliveryTimeout(2 * time.Minute), kgo.UnknownTopicRetries(-1),
	}
	if !idempotent {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	client, err := kgo.NewClient(options...)
	fail(err)
	var failed atomic.Value
	for n := 0; n < count; n++ {
		value := fmt.Sprintf("%s-%d", prefix, n)
		client.Produce(context.Background(), &kgo.Record{Key: []byte(strconv.Itoa(n)), Value: []byte(value)},
			func(_ *kgo.Record, err error) {
				if err != nil {
					failed.Store(err)
					return
				}
				fmt.Println("acked", value)
			})
	}
	fail(client.Flush(context.Background()))
	if err, _ := failed.Load().(error); err != nil {
		fail(err)
	}
	client.Close()
}

func consume(bootstrap, topic, group string, count int) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap), kgo.ConsumeTopics(topic), kgo.ConsumerGroup(group), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(6*time.Second),
		kgo.HeartbeatInterval(time.Second), kgo.AllowAutoTopicCreation(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, assigned map[string][]int32) {
			fmt.Println("assigned", strings.Trim(strings.ReplaceAll(fmt.Sprint(assigned[topic]), " ", ","), "[]"))
		}))
	fail(err)
	seen := 0
	for seen < count {
		fetches := client.PollRecords(context.Background(), count-seen)
		var records []*kgo.Record
		fetches.EachRecord(func(record *kgo.Record) {
			fmt.Println(record.Partition, record.Offset, string(record.Value))
			records = append(records, record)
			seen++
		})
		if len(records) > 0 {
			if err := client.CommitRecords(context.Background(), records...); err != nil {
				fmt.Fprintln(os.Stderr, "commit:", err)
			}
		}
	}
	client.Close()
}

func main() {
	a := os.Args
	switch a[1] {
	case "produce":
		count, _ := strconv.Atoi(a[4])
		produce(a[2], a[3], count, a[5], a[6] == "1", a[7])
	case "consume":
		count, _ := strconv.Atoi(a[5])
		consume(a[2], a[3], a[4], count)
	case "member":
		consume(a[2], a[3], a[4], 1<<30)
	}
}
